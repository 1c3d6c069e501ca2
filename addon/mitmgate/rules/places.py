"""Where a value of loaded rules stands, to the column, and what is written there.

`Rules.where` tells file and line, which is all that serving needs. What warns and compares needs more, seldom and after
loading, so the file concerned is then read once more instead of every loaded document keeping its text.
"""

from bisect import bisect_left
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path as Folder
from typing import Final, NamedTuple

from mitmgate.rules.files import RuleFile, rule_files
from mitmgate.rules.nodes import Items, Map, Node, Scalar, compose
from mitmgate.rules.positions import Path, Place, Problem, dotted, shown

_LONGEST: Final = 120                       # characters of a list or map that a message repeats
_TEAMS: Final = "teams"
_SHORT: Final = frozenset({"model", "use", "governed"})     # what a bare text stands for where a map may stand


class _Found(NamedTuple):
    place: Place
    value: Node


class Places:
    """Of one folder of rules, whose `Rules.where` is `where`."""

    def __init__(self, where: Mapping[str, str], folder: Folder) -> None:
        self._where = where
        self._folder = folder
        self._trees: dict[str, Map | None] = {}

    def problem(self, path: Path, message: str) -> Problem:
        """`message` at the key or list item that `path` names."""
        return Problem.at(self.place(path), path, message)

    def place(self, path: Path) -> Place:
        """Of the key or list item; of what it would stand in if it is not written."""
        while path and dotted(path) not in self._where:
            path = path[:-1]
        if not path:
            return Place(next(iter(self._texts), ""), 1, 1)
        file, _, line = self._where[dotted(path)].rpartition(":")
        found = self._found(path, file)
        # A file that was changed since it was loaded: the line is what we have.
        return found.place if found is not None and found.place.line == int(line) else Place(file, int(line), 1)

    def line(self, path: Path) -> str | None:
        """`file:line` of the key or list item; None if it is not written."""
        return self._where.get(dotted(path))

    def written(self, path: Path) -> str | None:
        """The value as it stands in the file, before the environment is put in; None if it is not written."""
        found = self._at(path)
        if found is None and path and path[-1] in _SHORT:
            found = self._at(path[:-1])
            if found is not None and not isinstance(found.value, Scalar):
                return None
        return _text(found.value) if found is not None else None

    def text(self, path: Path) -> str | None:
        """The whole text of a value as it stands in the file; None if it is not written, or a map or list."""
        found = self._at(path)
        return found.value.text if found is not None and isinstance(found.value, Scalar) else None

    def _at(self, path: Path) -> _Found | None:
        where = self._where.get(dotted(path)) if path else None
        return self._found(path, where.rpartition(":")[0]) if where is not None else None

    @cached_property
    def _texts(self) -> Mapping[str, str]:
        return {each.name: each.text for each in rule_files(self._folder) if isinstance(each, RuleFile)}

    def _found(self, path: Path, file: str) -> _Found | None:
        """The entry or item in its own file's tree."""
        if file not in self._trees:
            text = self._texts.get(file)
            self._trees[file] = compose(text, file)[0] if text is not None else None
        node: Node | None = self._trees[file]
        place: Place | None = None
        start = 2 if path[0] == _TEAMS and file.startswith(f"{_TEAMS}/") else 0     # a team's file is its team's map
        for at in range(start, len(path)):
            part = path[at]
            if isinstance(node, Map) and isinstance(part, str) and part in node.entries:
                place, node = node.entries[part].place, node.entries[part].value
            elif isinstance(node, Items) and isinstance(part, int):
                index = part - self._first(path[:at], part, file)
                if index >= len(node.items):
                    return None
                node = node.items[index]
                place = node.place
            else:
                return None
        return _Found(place, node) if place is not None and node is not None else None

    def _first(self, path: Path, last: int, file: str) -> int:
        """The index in the merged list of the first item that `file` gave to it: files append one after the other."""
        # From the file's first item to `last` all are its own, and those before are not.
        return bisect_left(range(last), 1, key=lambda index: self._is_in((*path, index), file))

    def _is_in(self, path: Path, file: str) -> bool:
        return self._where.get(dotted(path), "").rpartition(":")[0] == file


def _text(node: Node) -> str:
    """On one line, bounded."""
    text = _flow(node)
    return shown(text) if isinstance(node, Scalar) else text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _flow(node: Node) -> str:
    match node:
        case Map():
            return "{" + ", ".join(f"{shown(key)}: {_flow(entry.value)}" for key, entry in node.entries.items()) + "}"
        case Items():
            return "[" + ", ".join(map(_flow, node.items)) + "]"
    return shown(node.text)
