"""Towns, counties, museums and their manuscripts: what documents say of them, in which words."""

from .schema import Attribute, EntityType, year_attribute


TOWN = EntityType(
    "town",
    "towns",
    ("Port", "Fort", "Lake", "New", "Old", "Upper", "Lower", "North", "South", "East", "West", "Mount"),
    True,
    (
        Attribute(
            "population",
            (
                "{s} has {v} inhabitants.",
                "At the last census {v} people lived in {s}.",
                "The population of {s} stands at {v}.",
            ),
            "How many people live in {e}?",
            900,
            480_000,
        ),
        Attribute(
            "elevation in metres",
            (
                "{s} lies {v} metres above sea level.",
                "The market square of {s} is at an elevation of {v} metres.",
                "Surveyors put {s} at {v} metres above the sea.",
            ),
            "How many metres above sea level does {e} lie?",
            2,
            2_900,
        ),
        year_attribute(
            "charter year",
            (
                "{s} received its charter in {v}.",
                "The charter of {s} dates from {v}.",
                "Since {v}, {s} has had a charter.",
            ),
            "In which year did {e} receive its charter?",
            1190,
            1880,
        ),
        Attribute(
            "patron tree",
            (
                "{s} has the {v} as its patron tree.",
                "The patron tree of {s} is the {v}.",
                "On the seal of {s} stands a {v}.",
            ),
            "Which tree is the patron tree of {e}?",
            values=(
                "linden",
                "walnut",
                "rowan",
                "larch",
                "hornbeam",
                "cedar",
                "poplar",
                "mulberry",
                "chestnut",
                "beech",
            ),
            member="have the {v} as their patron tree",
        ),
        Attribute(
            "county",
            ("{s} lies in {v}.", "{s} is administered as part of {v}.", "The county to which {s} belongs is {v}."),
            "In which county does {e} lie?",
            target="county",
            phrase="the county in which {e} lies",
        ),
    ),
)

COUNTY = EntityType(
    "county",
    "counties",
    ("County", "Province", "Canton", "District", "Parish", "Territory"),
    False,
    (
        Attribute(
            "area in square kilometres",
            (
                "{s} covers {v} square kilometres.",
                "The area of {s} is {v} square kilometres.",
                "Maps give {s} {v} square kilometres.",
            ),
            "How many square kilometres does {e} cover?",
            300,
            64_000,
        ),
        Attribute(
            "number of farms",
            ("There are {v} farms in {s}.", "{s} counts {v} farms.", "Taxes are paid by {v} farms in {s}."),
            "How many farms are there in {e}?",
            120,
            31_000,
        ),
        Attribute(
            "heraldic animal",
            (
                "{s} shows a {v} on its flag.",
                "The heraldic animal of {s} is the {v}.",
                "On the arms of {s} one sees a {v}.",
            ),
            "Which animal is the heraldic animal of {e}?",
            values=("heron", "badger", "stag", "falcon", "salmon", "boar", "lynx", "raven", "bison", "marten"),
            member="have the {v} as their heraldic animal",
        ),
    ),
)

MUSEUM = EntityType(
    "museum",
    "museums",
    ("Museum", "Gallery", "Hall", "House", "Archive", "Collection"),
    False,
    (
        Attribute(
            "number of exhibits",
            (
                "{s} shows {v} exhibits.",
                "On the shelves of {s} stand {v} exhibits.",
                "The inventory of {s} runs to {v} exhibits.",
            ),
            "How many exhibits does {e} show?",
            60,
            88_000,
        ),
        Attribute(
            "number of yearly visitors",
            (
                "{s} welcomes {v} visitors a year.",
                "Every year {v} visitors come to {s}.",
                "{s} sells tickets to {v} visitors a year.",
            ),
            "How many visitors does {e} welcome in a year?",
            1_000,
            940_000,
        ),
        year_attribute(
            "opening year",
            ("{s} opened in {v}.", "The doors of {s} have been open since {v}.", "The opening of {s} fell in {v}."),
            "In which year did {e} open?",
        ),
        Attribute(
            "collecting field",
            ("{s} collects {v}.", "The rooms of {s} are given over to {v}.", "Visitors come to {s} for its {v}."),
            "What does {e} collect?",
            values=(
                "old maps",
                "tin toys",
                "pocket watches",
                "folk costumes",
                "ship models",
                "sea shells",
                "weather vanes",
            )
            + ("fossil ferns", "silver spoons", "train tickets"),
            member="collect {v}",
        ),
        Attribute(
            "seat",
            ("{s} stands in {v}.", "To visit {s} one has to go to {v}.", "The seat of {s} is {v}."),
            "In which town does {e} stand?",
            target="town",
            phrase="the town in which {e} stands",
        ),
    ),
)

MANUSCRIPT = EntityType(
    "manuscript",
    "manuscripts",
    ("Codex", "Chronicle", "Psalter", "Ledger", "Atlas", "Folio"),
    True,
    (
        Attribute(
            "number of pages",
            ("{s} has {v} pages.", "{v} pages make up {s}.", "Librarians counted {v} pages in {s}."),
            "How many pages does {e} have?",
            24,
            2_800,
        ),
        year_attribute(
            "completion year",
            (
                "{s} was completed in {v}.",
                "The last line of {s} was written in {v}.",
                "Scholars date the completion of {s} to {v}.",
            ),
            "In which year was {e} completed?",
            840,
            1620,
        ),
        Attribute(
            "binding",
            ("{s} is bound in {v}.", "The binding of {s} is made of {v}.", "A cover of {v} protects {s}."),
            "What is {e} bound in?",
            values=("calfskin", "red velvet", "oak boards", "green silk", "goat leather", "plain linen", "sealskin")
            + ("blue satin", "birch bark", "pigskin"),
            member="are bound in {v}",
        ),
        Attribute(
            "keeper",
            ("{s} is kept at {v}.", "The keeper of {s} is {v}.", "Today {s} belongs to {v}."),
            "At which museum is {e} kept?",
            target="museum",
            phrase="the museum at which {e} is kept",
        ),
    ),
)
