"""The table of facts behind a synthetic record, and the documents that are rendered from it."""

from __future__ import annotations

import random
from collections import defaultdict

from ..record import Document
from .domains import ENTITY_TYPES, FILLERS
from .schema import Attribute, EntityType


_ONSETS = (
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
)
_VOWELS = "aeiou"
_CODAS = ("", "", "l", "n", "r", "s", "m", "th")
_CONSONANTS = "bdfgklmnprstvz"


class World:
    """Named entities with their facts. All draws come from `rng`, so a world is a function of its seed.

    Attributes:
        facts (`dict[str, dict[str, int | str]]`): Name of an entity to noun of an attribute to its value.
        type_of (`dict[str, EntityType]`): Name to type, for every name ever used.
        reserved (`dict[str, set[int | str]]`): Noun to the values that distractors must not have.
        ceiling (`dict[str, int]`): Noun to the largest number that distractors may have.
    """

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.facts: dict[str, dict[str, int | str]] = {}
        self.type_of: dict[str, EntityType] = {}
        self.reserved: defaultdict[str, set[int | str]] = defaultdict(set)
        self.ceiling: dict[str, int] = {}
        self._protected: list[str] = []
        self._names: defaultdict[str, list[str]] = defaultdict(list)  # type -> names
        self._undescribed: defaultdict[str, list[str]] = defaultdict(list)  # type -> linked to, without a document yet

    def new_entity(self, kind: EntityType, facts: dict[str, int | str]) -> str:
        """An entity that the question is about. No later name contains its name or is contained in it."""
        name = self._new_name(kind)
        self._protected.append(name.lower())
        self.facts[name] = facts
        return name

    def draw(self, attribute: Attribute) -> int | str:
        """A value that respects `reserved` and `ceiling`; a new or known name where the attribute is a link."""
        rng = self.rng
        if attribute.kind == "link":
            kind = ENTITY_TYPES[attribute.target]
            if self._names[kind.noun] and rng.random() < 0.5:
                known = rng.choice(self._names[kind.noun])
                if known not in self.reserved[attribute.noun]:
                    return known
            name = self._new_name(kind)
            self._undescribed[kind.noun].append(name)
            return name
        while True:
            if attribute.kind == "category":
                value = rng.choice(attribute.values)
            else:
                value = rng.randint(attribute.low, self.ceiling.get(attribute.noun, attribute.high))
            if value not in self.reserved[attribute.noun]:
                return value

    def describe(self, name: str, stated: list[Attribute], extra: int) -> tuple[Document, dict[str, tuple[int, int]]]:
        """A document on one entity that states `stated` and `extra` other things.

        Returns:
            The document, and for each noun in `stated` the characters of the sentence that states it.
        """
        rng, kind = self.rng, self.type_of[name]
        facts = self.facts.setdefault(name, {})
        others = [attribute for attribute in kind.attributes if attribute not in stated]
        others = rng.sample([*others, *rng.sample(FILLERS, 3)], min(extra, len(others) + 3))
        topics = [*stated, *others]
        rng.shuffle(topics)
        sentences, spans, start = [], {}, 0
        for topic in topics:
            # What may be asked for is stated with the full name, so that the sentence means the same on its own.
            subject = name if topic in stated or not sentences or rng.random() < 0.4 else f"the {kind.noun}"
            if isinstance(topic, str):
                sentence = topic.format(s=subject)
            else:
                if topic.noun not in facts:
                    facts[topic.noun] = self.draw(topic)
                sentence = rng.choice(topic.sentences).format(s=subject, v=topic.show(facts[topic.noun]))
            sentence = sentence[0].upper() + sentence[1:]
            if topic in stated:
                spans[topic.noun] = (start, start + len(sentence))
            sentences.append(sentence)
            start += len(sentence) + 1
        return Document(title=name, text=" ".join(sentences)), spans

    def distractor(self, kind: EntityType, stated: list[Attribute], extra: int) -> Document:
        """A document on another entity of the type, preferably one that other documents link to."""
        waiting = self._undescribed[kind.noun]
        if waiting and self.rng.random() < 0.7:
            place = self.rng.randrange(len(waiting))
            waiting[place], waiting[-1] = waiting[-1], waiting[place]
            name = waiting.pop()
        else:
            name = self._new_name(kind)
        return self.describe(name, stated, extra)[0]

    def near_duplicate(self, name: str, stated: list[Attribute], extra: int) -> Document:
        """A document on an entity whose name differs from `name` in one letter or one word."""
        kind = self.type_of[name]
        while True:
            words = name.split(" ")
            place = self.rng.randrange(2)
            if words[place] in kind.affixes:
                words[place] = self.rng.choice(kind.affixes)
            else:
                words[place] = self._change_letter(words[place])
            if self._is_free(" ".join(words)):
                break
        return self.describe(self._register(" ".join(words), kind), stated, extra)[0]

    def _new_name(self, kind: EntityType) -> str:
        while True:
            word, other = self._word(), self.rng.choice(kind.affixes) if kind.affixes else self._word()
            name = f"{other} {word}" if kind.affix_first else f"{word} {other}"
            if self._is_free(name):
                return self._register(name, kind)

    def _is_free(self, name: str) -> bool:
        low = name.lower()
        return name not in self.type_of and not any(low in other or other in low for other in self._protected)

    def _register(self, name: str, kind: EntityType) -> str:
        self.type_of[name] = kind
        self._names[kind.noun].append(name)
        return name

    def _word(self) -> str:
        rng = self.rng
        syllables = 2 if rng.random() < 0.5 else 3
        word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_CODAS)
        return word.capitalize()

    def _change_letter(self, word: str) -> str:
        place = self.rng.randrange(1, len(word))
        letters = _VOWELS if word[place] in _VOWELS else _CONSONANTS
        return word[:place] + self.rng.choice([x for x in letters if x != word[place]]) + word[place + 1 :]
