"""Companies, engineers, ships and expeditions: what documents say of them, in which words."""

from .schema import Attribute, EntityType, year_attribute


COMPANY = EntityType(
    "company",
    "companies",
    ("Works", "Foundry", "Mills", "Brothers", "Industries", "Supplies", "Logistics", "Textiles", "Ceramics", "Tools"),
    False,
    (
        Attribute(
            "number of employees",
            (
                "{s} employs {v} people.",
                "A staff of {v} works for {s}.",
                "According to the latest count, {s} has {v} employees.",
            ),
            "How many people does {e} employ?",
            40,
            9_800,
        ),
        Attribute(
            "yearly output in tonnes",
            (
                "The yearly output of {s} comes to {v} tonnes.",
                "{s} turns out {v} tonnes of goods a year.",
                "In a normal year {s} ships {v} tonnes.",
            ),
            "How many tonnes of goods does {e} turn out in a year?",
            500,
            98_000,
        ),
        year_attribute(
            "founding year",
            (
                "{s} was founded in {v}.",
                "{s} has been in business since {v}.",
                "The register gives {v} as the year in which {s} was set up.",
            ),
            "In which year was {e} founded?",
        ),
        Attribute(
            "main product",
            (
                "{s} mainly makes {v}.",
                "The main product of {s} is {v}.",
                "Most of what leaves the gates of {s} is {v}.",
            ),
            "What does {e} mainly make?",
            values=("roof tiles", "glass bottles", "wool blankets", "copper wire", "bicycle parts", "paper bags")
            + ("garden tools", "steam valves", "oak barrels", "sewing thread"),
            member="mainly make {v}",
        ),
        Attribute(
            "head office",
            (
                "{s} is headquartered in {v}.",
                "The head office of {s} is in {v}.",
                "Letters to {s} are answered from its head office in {v}.",
            ),
            "In which town is {e} headquartered?",
            target="town",
            phrase="the town in which {e} is headquartered",
        ),
    ),
)

ENGINEER = EntityType(
    "engineer",
    "engineers",
    (),
    False,
    (
        Attribute(
            "number of patents",
            (
                "{s} holds {v} patents.",
                "To date {v} patents carry the name of {s}.",
                "Over the years {s} filed {v} patents.",
            ),
            "How many patents does {e} hold?",
            3,
            2_400,
        ),
        year_attribute(
            "birth year",
            ("{s} was born in {v}.", "The birth of {s} is dated to {v}.", "Born in {v}, {s} took up the trade early."),
            "In which year was {e} born?",
            1930,
            2004,
        ),
        Attribute(
            "speciality",
            ("{s} specialises in {v}.", "Colleagues turn to {s} for {v}.", "The speciality of {s} is {v}."),
            "What does {e} specialise in?",
            values=("bridge bearings", "tidal turbines", "signal lamps", "dam gates", "cable cars", "clock towers")
            + ("ice breakers", "grain elevators", "drainage pumps", "wind tunnels"),
            member="specialise in {v}",
        ),
        Attribute(
            "employer",
            (
                "{s} works for {v}.",
                "The employer of {s} is {v}.",
                "For many years {s} has been on the payroll of {v}.",
            ),
            "Which company does {e} work for?",
            target="company",
            phrase="the company that {e} works for",
        ),
    ),
)

SHIP = EntityType(
    "ship",
    "ships",
    ("Star", "Spirit", "Queen", "Pioneer", "Venture", "Horizon", "Trader", "Voyager", "Swift", "Beacon"),
    False,
    (
        Attribute(
            "length in centimetres",
            (
                "{s} is {v} centimetres long.",
                "From bow to stern {s} measures {v} centimetres.",
                "The length of {s} is {v} centimetres.",
            ),
            "How many centimetres long is {e}?",
            1_800,
            29_000,
        ),
        Attribute(
            "cargo capacity in tonnes",
            (
                "{s} can carry {v} tonnes.",
                "The holds of {s} take {v} tonnes.",
                "Fully laden, {s} has {v} tonnes on board.",
            ),
            "How many tonnes can {e} carry?",
            90,
            52_000,
        ),
        year_attribute(
            "launch year",
            (
                "{s} was launched in {v}.",
                "The launch of {s} took place in {v}.",
                "In {v}, {s} slid into the water for the first time.",
            ),
            "In which year was {e} launched?",
            1880,
        ),
        Attribute(
            "funnel colour",
            ("{s} has a {v} funnel.", "The funnel of {s} is painted {v}.", "One knows {s} by its {v} funnel."),
            "What is the colour of the funnel of {e}?",
            values=(
                "crimson",
                "white",
                "black",
                "yellow",
                "turquoise",
                "grey",
                "purple",
                "bronze",
                "scarlet",
                "cream",
            ),
            member="have a {v} funnel",
        ),
        Attribute(
            "home port",
            (
                "The home port of {s} is {v}.",
                "{s} is registered in {v}.",
                "Between voyages {s} lies at its berth in {v}.",
            ),
            "In which town is {e} registered?",
            target="town",
            phrase="the town in which {e} is registered",
        ),
    ),
)

EXPEDITION = EntityType(
    "expedition",
    "expeditions",
    ("Mission", "Project", "Survey", "Operation", "Venture", "Campaign"),
    True,
    (
        Attribute(
            "duration in days",
            ("{s} lasted {v} days.", "It took {v} days to complete {s}.", "After {v} days {s} came to its end."),
            "How many days did {e} last?",
            9,
            1_400,
        ),
        Attribute(
            "number of samples",
            (
                "{s} brought back {v} samples.",
                "The crates of {s} held {v} samples.",
                "In all {v} samples were collected by {s}.",
            ),
            "How many samples did {e} bring back?",
            20,
            18_000,
        ),
        Attribute(
            "field of study",
            ("{s} studied {v}.", "The subject of {s} was {v}.", "Money for {s} was given to learn more about {v}."),
            "What did {e} study?",
            values=("sea currents", "glacier moss", "whale songs", "volcanic ash", "coral growth", "bird migration")
            + ("river silt", "polar light", "cave insects", "desert wells"),
            member="studied {v}",
        ),
        Attribute(
            "expedition ship",
            ("{s} travelled aboard {v}.", "The ship of {s} was {v}.", "For the whole journey {s} had the use of {v}."),
            "Aboard which ship did {e} travel?",
            target="ship",
            phrase="the ship that {e} travelled aboard",
        ),
    ),
)
