"""YAML text to a bounded tree whose every node knows its place (YAML 1.2).

Theory of operation. A parser gives events (`events`); the tree is composed from them here, so that every bound is checked
before anything is built: nodes, depth, and how much aliases repeat (THREATS, row 25: 306 bytes of aliases reach 3
million nodes). An alias is a second reference to the same node, never a copy. Scalars stay text here; `values` decides
what they mean, so that no `yes` turns into true and no date into a date.

Nodes are made once for each of a hundred thousand values and not frozen, which would treble what making one costs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mitmgate.rules.events import DEEPEST, HAS_LIBYAML, TAGS, TOO_DEEP, Libyaml, NotAlike, Parser, Ruamel
from mitmgate.rules.positions import MOST_PROBLEMS, Path, Place, Problem, shown

MOST_NODES: Final = 20_000                  # of one file: each may be a mistake that is told (docs/decisions/007)
MOST_REPEATED: Final = 10_000               # nodes that a file's aliases repeat, all together
# ruamel.yaml makes some 60,000 events a second, and reads 0.7 to 3 MB: what it is given to read is less.
SLOW_LARGEST: Final = 128 << 10             # characters
SLOW_MOST_NODES: Final = 8_000

NO_MAP: Final = "expected a map of keys such as `routes:` at the top of the file"
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Scalar:
    """A value as it was written. `plain`: without quotes, so it may be a number, a boolean or nothing."""

    place: Place
    text: str
    plain: bool
    size: ClassVar[int] = 1
    height: ClassVar[int] = 1


@dataclass(slots=True)
class Entry:
    """One key of a map."""

    place: Place                            # of the key
    value: "Node"


@dataclass(slots=True)
class Map:
    """A map; keys are text as written. `size` counts the nodes in it, itself and repeated ones included."""

    place: Place
    entries: dict[str, Entry]
    size: int
    height: int


@dataclass(slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple["Node", ...]
    size: int
    height: int


type Node = Scalar | Map | Items


class _Stop(Exception):
    """Nothing more of this file can be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def compose(text: str, file: str) -> tuple[Map | None, list[Problem]]:
    """The tree of one file, and what is wrong with it; None if it is empty or cannot be read at all."""
    if not HAS_LIBYAML:
        return Composer(Ruamel(text), file, MOST_NODES).read()
    try:
        fast = Composer(Libyaml(text), file, MOST_NODES)
        found = fast.read()
        if not fast.refused:
            return found
    except NotAlike as unlike:
        bounds = f"{SLOW_LARGEST >> 10} KiB and {SLOW_MOST_NODES:,} values"
        message = f"only a file of at most {bounds} may hold {unlike.what}"
        found = None, [Problem.at(Place(file, unlike.line, unlike.column), (), message)]
    if len(text) > SLOW_LARGEST:
        return found
    slow = Composer(Ruamel(text), file, SLOW_MOST_NODES)
    decided = slow.read()
    return found if slow.too_many else decided


class Composer:
    """Events to nodes, within the bounds."""

    def __init__(self, parser: Parser, file: str, most_nodes: int) -> None:
        self._parser = parser
        self._events: Iterator[Any] = parser.events()
        self._alias, self._scalar = parser.kinds.AliasEvent, parser.kinds.ScalarEvent
        self._map_begins, self._map_ends = parser.kinds.MappingStartEvent, parser.kinds.MappingEndEvent
        self._list_ends = parser.kinds.SequenceEndEvent
        self._file = file
        self._anchors: dict[str, Node | None] = {}      # None: begun and not ended
        self._halves = parser.half_characters
        self._most_nodes = most_nodes
        self._nodes = 0
        self._repeated = 0
        self._path: Path = ()
        self._mark: Any = None                          # of the latest event
        self._problems: list[Problem] = []
        self.refused = False                            # the parser could not read the text
        self.too_many = False                           # more nodes than it may have

    def read(self) -> tuple[Map | None, list[Problem]]:
        """The tree, and what is wrong. Raises `NotAlike`."""
        try:
            return self._document(), self._problems
        except _Stop as stop:
            problem = stop.problem
        except self._parser.refusals as error:
            self.refused = True
            problem = self._parser.problem(error, self._file, self._place())
        return None, [*self._problems, problem]

    def _document(self) -> Map | None:
        """The one document of the file."""
        kinds = self._parser.kinds
        root: Node | None = None
        begun = False
        for event in self._events:
            self._mark = event.start_mark or self._mark
            if isinstance(event, (kinds.StreamStartEvent, kinds.StreamEndEvent, kinds.DocumentEndEvent)):
                continue
            if isinstance(event, kinds.DocumentStartEvent):
                if begun:
                    raise self._stop("a second document: one file holds one, without `---` inside it")
                if event.version is not None and tuple(event.version) != (1, 2):
                    raise self._stop("`%YAML` other than 1.2 is not supported: leave the line out")
                begun = True
                continue
            root = self._node(event, 1)
        if root is None or (isinstance(root, Scalar) and root.plain and root.text in ("", "~", "null")):
            return None
        if not isinstance(root, Map):
            raise _Stop(Problem.at(root.place, (), NO_MAP))
        return root

    def _place(self) -> Place:
        mark = self._mark
        return Place(self._file, mark.line + 1, mark.column + 1) if mark is not None else Place(self._file, 1, 1)

    def _stop(self, message: str) -> _Stop:
        return _Stop(Problem.at(self._place(), self._path, message))

    def _node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is self._alias:
            return self._repeat(event, depth)
        self._nodes += 1
        if self._nodes > self._most_nodes:
            self.too_many = True
            raise self._stop(f"more than {self._most_nodes:,} values in one file: split it")
        if depth > DEEPEST:
            raise self._stop(TOO_DEEP)
        if event.tag is not None:
            raise self._stop(TAGS)
        anchor = event.anchor
        if anchor is not None:
            self._parser.look_at_name(event)
            self._anchors[anchor] = None
        node: Node
        if kind is self._scalar:
            mark = event.start_mark
            node = Scalar(Place(self._file, mark.line + 1, mark.column + 1), event.value, not event.style)
            if self._halves and _HALF_CHARACTER.search(node.text):
                raise self._stop("half of a surrogate pair: write the character itself")
        elif kind is self._map_begins:
            node = self._map(depth)
        else:
            node = self._items(depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _repeat(self, event: Any, depth: int) -> Node:
        self._parser.look_at_name(event)
        name = shown(event.anchor)
        if event.anchor not in self._anchors:
            raise self._stop(f"no `&{name}` stands before this `*{name}`; text that begins with `*` must be in quotes")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._stop(f"`*{name}` stands inside the value that it repeats")
        self._repeated += node.size
        if self._repeated > MOST_REPEATED:
            raise self._stop(f"aliases repeat more than {MOST_REPEATED:,} values")
        if depth + node.height - 1 > DEEPEST:
            raise self._stop(TOO_DEEP)
        return node

    def _map(self, depth: int) -> Map:
        place, path, size, height = self._place(), self._path, 1, 0
        entries: dict[str, Entry] = {}
        while True:
            event = next(self._events)
            self._mark = event.start_mark
            if type(event) is not self._scalar:
                if type(event) is self._map_ends:
                    return Map(place, entries, size, height + 1)
                self._parser.look_at_key(event)
                raise self._stop("a key must be plain text, not an alias, a map or a list")
            key = self._node(event, depth + 1)
            text, key_place = key.text, key.place       # type: ignore[union-attr]  # a scalar's
            if not text:
                self._parser.look_at_nothing(event)
            self._path = (*path, text)
            event = next(self._events)
            self._mark = event.start_mark
            value = self._node(event, depth + 1)
            if type(value) is Scalar and not value.text and value.plain:
                value.place = key_place                 # the parsers place nothing at different ends of a gap
            size += value.size + 1
            height = max(height, value.height)
            if text not in entries:
                entries[text] = Entry(key_place, value)
            elif len(self._problems) <= MOST_PROBLEMS:
                message = f"given twice, first at {entries[text].place}"
                self._problems.append(Problem.at(key_place, self._path, message))
            self._path = path

    def _items(self, depth: int) -> Items:
        place, path, size, height = self._place(), self._path, 1, 0
        items: list[Node] = []
        while True:
            event = next(self._events)
            self._mark = event.start_mark
            if type(event) is self._list_ends:
                return Items(place, tuple(items), size, height + 1)
            self._path = (*path, len(items))
            item = self._node(event, depth + 1)
            if type(item) is Scalar and not item.text:
                self._parser.look_at_nothing(event)
            size += item.size
            height = max(height, item.height)
            items.append(item)
            self._path = path
