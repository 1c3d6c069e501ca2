"""Several files to one document (DESIGN §4): maps merge, lists append, a name given twice is an error."""

from collections.abc import Sequence
from typing import Final

from mitmgate.rules.nodes import Entry, Items, Map, Node, Scalar
from mitmgate.rules.positions import Path, Place, Problem

# Their keys are names that operators gave: the same one in two files is a mistake, not two halves of one thing.
_NAMED: Final = frozenset(
    (key,) for key in ("providers", "models", "aliases", "guardrails", "tiers", "projects", "pipelines", "notify")
)


def merge(files: Sequence[Map]) -> tuple[Map, list[Problem]]:
    """One map of all; the first of two equal names stays, and the second is a problem."""
    problems: list[Problem] = []
    whole = files[0] if files else Map(Place("", 1, 1), {}, 1, 1)
    for file in files[1:]:
        whole = _merge_maps(whole, file, (), problems)
    return whole, problems


def _merge_maps(first: Map, second: Map, path: Path, problems: list[Problem]) -> Map:
    entries = dict(first.entries)
    for key, entry in second.entries.items():
        known = entries.get(key)
        if known is None:
            entries[key] = entry
            continue
        here = (*path, key)
        merged = None if path in _NAMED else _merge_values(known.value, entry.value, here, problems)
        if merged is None:
            problems.append(Problem.at(entry.place, here, f"given twice, first at {known.place}"))
        else:
            entries[key] = Entry(known.place, merged)
    return Map(first.place, entries, first.size + second.size, max(first.height, second.height))


def _merge_values(first: Node, second: Node, path: Path, problems: list[Problem]) -> Node | None:
    match first, second:
        case Map(), Map():
            return _merge_maps(first, second, path, problems)
        case Items(), Items():
            size, height = first.size + second.size, max(first.height, second.height)
            return Items(first.place, first.items + second.items, size, height)
        case Scalar(text="", plain=True), Map() | Items():     # `routes:` with nothing under it
            return second
        case Map() | Items(), Scalar(text="", plain=True):
            return first
    return None
