"""What synthetic documents are about: all types of things, and sentences that state nothing."""

from __future__ import annotations

from .places import COUNTY, MANUSCRIPT, MUSEUM, TOWN
from .schema import EntityType
from .ventures import COMPANY, ENGINEER, EXPEDITION, SHIP


ENTITY_TYPES: dict[str, EntityType] = {
    kind.noun: kind for kind in (COMPANY, ENGINEER, TOWN, COUNTY, SHIP, EXPEDITION, MUSEUM, MANUSCRIPT)
}

# Sentences that state nothing which is ever asked for.
FILLERS = (
    "Not everything that is told about {s} can be confirmed today.",
    "Several articles about {s} have appeared over the decades.",
    "Those who know {s} well tend to speak of it warmly.",
    "A longer account of {s} is being prepared by local historians.",
    "Older sources spell the name of {s} in different ways.",
    "Few photographs connected with {s} survive.",
    "An appendix collects further letters that mention {s}.",
    "Opinions about {s} have changed more than once.",
)
