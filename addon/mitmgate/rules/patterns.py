"""Places in the rules by pattern: `routes[].match.project` is that key of every route, `models.*.price` of every model.

All patterns of a table are one tree, so a document is walked once, and only where a pattern may lead.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mitmgate.rules.positions import Path

_PART: Final = re.compile(r"\[\]|[^.\[\]]+")
_ITEM: Final = "[]"
_ANY: Final = "*"


@dataclass(slots=True)
class _Branch[T]:
    found: list[T] = field(default_factory=list)
    parts: dict[str, "_Branch[T]"] = field(default_factory=dict)


class Patterns[T]:
    """A table from patterns to something; the same pattern may stand in it several times."""

    __slots__ = ("_root",)

    def __init__(self, table: Iterable[tuple[str, T]]) -> None:
        self._root: _Branch[T] = _Branch()
        for pattern, meaning in table:
            branch = self._root
            for part in _PART.findall(pattern):
                branch = branch.parts.setdefault(part, _Branch())
            branch.found.append(meaning)

    def walk(self, document: Mapping[str, Any]) -> Iterator[tuple[Path, Any, T]]:
        """Every place of `document` that a pattern names: path, value, meaning. What has another shape is left out."""
        yield from _walk(self._root, document, ())


def _walk[T](branch: _Branch[T], value: Any, path: Path) -> Iterator[tuple[Path, Any, T]]:
    for meaning in branch.found:
        yield path, value, meaning
    if isinstance(value, dict):
        for key, each in value.items():
            for name in (key, _ANY):
                if (part := branch.parts.get(name)) is not None:
                    yield from _walk(part, each, (*path, key))
    elif isinstance(value, list) and (part := branch.parts.get(_ITEM)) is not None:
        for index, each in enumerate(value):
            yield from _walk(part, each, (*path, index))


SERVING: Final = ("routes[]", "models.*", "teams.*.routes[]", "teams.*.models.*")
"""Routes and models, the teams' own too."""


def serving(keys: Iterable[str]) -> Iterator[str]:
    """`keys` of all of those."""
    for key in keys:
        yield from (f"{place}.{key}" for place in SERVING)


TARGETS: Final = (
    *serving(f"{key}[]" for key in ("targets", "fallback", "hedge.targets", "shadow.targets", "canary.targets")),
    "vision.describe_with",
)
"""Where targets stand."""

MATCHES: Final = tuple(
    f"{place}{inner}"
    for place in ("routes[].match", "teams.*.routes[].match", "policies[].match", "aliases.*.match", "teams.*.aliases.*.match")
    for inner in ("", ".not")
)
"""Where requests are matched."""
