"""The four question shapes of Loong (arXiv 2406.17419), each computed from the facts of a world."""

from __future__ import annotations

from dataclasses import dataclass

from .domains import ENTITY_TYPES
from .schema import Attribute, EntityType
from .world import World


COMPARE_WORDINGS = (
    "Which {type} has the {most} {noun}: {either}?",
    "Of {all}, which {type} has the {most} {noun}?",
    "Compare {all}. Which one has the {most} {noun}?",
)
DIFFERENCE_WORDINGS = (
    "By how much does the {noun} of {a} exceed the {noun} of {b}?",
    "What is the difference between the {noun} of {a} and the {noun} of {b}?",
    "Subtract the {noun} of {b} from the {noun} of {a}. What is the result?",
)
CATEGORY_WORDINGS = (
    "List, in alphabetical order, all {plural} that {member}.",
    "Which {plural} {member}? Name all of them in alphabetical order.",
    "Find every one of the {plural} that {member} and give their names in alphabetical order.",
)
THRESHOLD_WORDINGS = (
    "List, in alphabetical order, all {plural} whose {noun} is above {v}.",
    "For which {plural} is the {noun} greater than {v}? Name all of them in alphabetical order.",
    "Find every one of the {plural} with a {noun} of more than {v} and give their names in alphabetical order.",
)
VALUE_WORDING = "What is the {noun} of {e}?"  # for numbers, beside the attribute's own question


@dataclass
class Question:
    """A question over a world.

    Args:
        text (`str`): The question.
        answers (`tuple[str, ...]`): The gold answer and its other spellings.
        evidence (`list[tuple[str, Attribute]]`): The facts that the answer is computed from.
        task (`str`): `"docmath"` where the answer is computed from numbers, else `"docqa"`.
    """

    text: str
    answers: tuple[str, ...]
    evidence: list[tuple[str, Attribute]]
    task: str = "docqa"


def join_names(names: list[str], word: str) -> str:
    """`A, B and C` (or `A, B or C`)."""
    return f"{', '.join(names[:-1])} {word} {names[-1]}" if len(names) > 1 else names[0]


def spotlight_locating(world: World, size: int) -> Question:
    """One value of one entity."""
    kind = world.rng.choice(list(ENTITY_TYPES.values()))
    attribute = world.rng.choice(kind.attributes)
    value = _draw_gold(world, attribute)
    name = world.new_entity(kind, {attribute.noun: value})
    return Question(_ask(world, attribute, name), _spellings(attribute, value), [(name, attribute)])


def comparison(world: World, size: int) -> Question:
    """The extreme one of `size` named entities, or the difference between two."""
    rng = world.rng
    kind = rng.choice(list(ENTITY_TYPES.values()))
    attribute = rng.choice(kind.of_kind("number"))
    names, values = [], []
    for _ in range(size):
        values.append(_draw_gold(world, attribute))
        names.append(world.new_entity(kind, {attribute.noun: values[-1]}))
    evidence = [(name, attribute) for name in names]
    if size == 2 and rng.random() < 0.6:
        (small, b), (large, a) = sorted(zip(values, names, strict=True))
        text = rng.choice(DIFFERENCE_WORDINGS).format(noun=attribute.noun, a=a, b=b)
        return Question(text, _plain_first(large - small), evidence, task="docmath")
    largest = rng.random() < 0.5
    winner = names[values.index(max(values) if largest else min(values))]
    text = rng.choice(COMPARE_WORDINGS).format(
        type=kind.noun,
        most=attribute.superlatives[0 if largest else 1],
        noun=attribute.noun,
        either=join_names(names, "or"),
        all=join_names(names, "and"),
    )
    return Question(text, (winner,), evidence)


def clustering(world: World, size: int) -> Question:
    """All `size` entities of a type with one category, or with a number above a threshold."""
    rng = world.rng
    kind = rng.choice(list(ENTITY_TYPES.values()))
    attribute = rng.choice([*kind.of_kind("category"), rng.choice(kind.of_kind("number"))])
    if attribute.kind == "category":
        value = rng.choice(attribute.values)
        names = [world.new_entity(kind, {attribute.noun: value}) for _ in range(size)]
        world.reserved[attribute.noun].add(value)
        member = attribute.member.format(v=value)
        text = rng.choice(CATEGORY_WORDINGS).format(plural=kind.plural, member=member)
    else:
        threshold = attribute.low + round((attribute.high - attribute.low) * rng.uniform(0.5, 0.8))
        values = [rng.randint(threshold + 1, attribute.high) for _ in range(size)]
        names = [world.new_entity(kind, {attribute.noun: value}) for value in values]
        world.ceiling[attribute.noun] = threshold
        shown = attribute.show(threshold)
        text = rng.choice(THRESHOLD_WORDINGS).format(plural=kind.plural, noun=attribute.noun, v=shown)
    ordered = sorted(names)
    answers = (join_names(ordered, "and"), ", ".join(ordered), "; ".join(ordered))
    return Question(text, tuple(dict.fromkeys(answers)), [(name, attribute) for name in names])


def chain_of_reasoning(world: World, size: int) -> Question:
    """`size` hops: from a named entity along `size - 1` links to an entity, and one value of that."""
    rng = world.rng
    path = rng.choice([path for path in map(_links_from, ENTITY_TYPES.values()) if len(path) >= size])[:size]
    last = rng.choice(path[-1].attributes)
    steps = [kind.of_kind("link")[0] for kind in path[:-1]] + [last]
    value = answer = _draw_gold(world, last)
    names = []
    for kind, step in zip(reversed(path), reversed(steps), strict=True):
        names.insert(0, world.new_entity(kind, {step.noun: value}))
        value = names[0]
    phrase = names[0]
    for step in steps[:-1]:
        phrase = step.phrase.format(e=phrase)
    return Question(_ask(world, last, phrase), _spellings(last, answer), list(zip(names, steps, strict=True)))


def _links_from(kind: EntityType) -> list[EntityType]:
    """The types that a chain from `kind` passes through, `kind` first."""
    links = kind.of_kind("link")
    return [kind, *(_links_from(ENTITY_TYPES[links[0].target]) if links else [])]


def _draw_gold(world: World, attribute: Attribute) -> int | str:
    if attribute.kind == "link":
        value = world.new_entity(ENTITY_TYPES[attribute.target], {})
    else:
        value = world.draw(attribute)
    if attribute.kind != "category":
        world.reserved[attribute.noun].add(value)  # no ties, and no distractor that happens to say the same
    return value


def _ask(world: World, attribute: Attribute, entity: str) -> str:
    wording = VALUE_WORDING if attribute.kind == "number" and world.rng.random() < 0.5 else attribute.question
    return wording.format(noun=attribute.noun, e=entity)


def _spellings(attribute: Attribute, value: int | str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((attribute.show(value), str(value))))


def _plain_first(number: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys((str(number), f"{number:,}")))
