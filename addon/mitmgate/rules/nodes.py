"""YAML text to a bounded tree whose every node knows its place (YAML 1.2; the parser is ruamel.yaml's).

Theory of operation. ruamel.yaml gives events; the tree is composed from them here, so that every bound is checked
before anything is built: nodes, depth, and how much aliases repeat (THREATS, row 25: 306 bytes of aliases reach 3
million nodes). An alias is a second reference to the same node, never a copy. Scalars stay text here; `values` decides
what they mean, so that no `yes` turns into true and no date into a date.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from mitmgate.rules.positions import Path, Place, Problem, shown

MOST_NODES: Final = 15_000                  # of one file: the parser makes some 60,000 events a second
MOST_REPEATED: Final = 10_000               # nodes that a file's aliases repeat, all together
DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it was written. `plain`: without quotes, so it may be a number, a boolean or nothing."""

    place: Place
    text: str
    plain: bool
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a map."""

    place: Place                            # of the key
    value: "Node"


@dataclass(frozen=True, slots=True)
class Map:
    """A map; keys are text as written. `size` counts the nodes in it, itself and repeated ones included."""

    place: Place
    entries: dict[str, Entry]
    size: int
    height: int


@dataclass(frozen=True, slots=True)
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


class _BoundedScanner(Scanner):
    """Refuses deep flow collections before ruamel does: its look-ahead is quadratic in the brackets that are open."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: Any) -> None:
        if self.flow_level > DEEPEST:
            raise ScannerError(None, None, _TOO_DEEP, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


_TOO_DEEP: Final = f"more than {DEEPEST} levels deep"
_TAGS: Final = "tags (`!…`) are not allowed: write the value alone"

# What ruamel.yaml says, what an operator can act on, and whether that is where the thing began and not where it was
# noticed. The first row whose text occurs in the error holds.
_PLAINER: Final = (
    (_TOO_DEEP, _TOO_DEEP, False),
    ("character '\\t'", "a tab: indent with spaces", False),
    ("tag", _TAGS, False),
    ("found character '%'", "text that begins with `%` must be in quotes", False),
    ("found character '@'", "text that begins with `@` must be in quotes", False),
    ("found character '`'", "text that begins with a backtick must be in quotes", False),
    ("found unexpected ':'", "a `:` where none is expected: put the text in quotes", False),
    ("mapping values are not", "a `key:` where none is expected: check the indentation, or quote the text", False),
    ("could not find expected ':'", "a key without its `:`", True),
    ("expected <block end>", "the indentation does not fit the lines above", False),
    ("expected ',' or ']'", "a list in brackets that is not closed, or holds text that must be in quotes", True),
    ("expected ',' or '}'", "a map in braces that is not closed, or holds text that must be in quotes", True),
    ("found '<stream end>'", "the file ends where a value is expected: a list or map is not closed", False),
    ("expected the node content", "a value is expected here: text that begins with a sign must be in quotes", False),
    ("unexpected end of stream", "a text in quotes that is not closed", True),
    ("sequence entries are not allowed", "a `- ` where none is expected: check the indentation", False),
    ("unknown escape character", "an unknown `\\` sequence: use single quotes, where `\\` has no meaning", False),
)


def compose(text: str, file: str) -> tuple[Map | None, list[Problem]]:
    """The tree of one file, and what is wrong with it; None if it is empty or cannot be read at all."""
    composer = _Composer(text, file)
    try:
        return composer.document(), composer.problems
    except _Stop as stop:
        problem = stop.problem
    except ReaderError as error:
        place = _place_of_index(text, error.position, file)
        problem = Problem.at(place, (), f"the control character U+{error.character:04X} is not allowed")
    except MarkedYAMLError as error:
        problem = _plainer(error, file)
    except (YAMLError, ValueError, OverflowError):
        # chr() of an escape beyond Unicode, a %YAML directive that is no number: ruamel checks neither
        problem = Problem.at(composer.place, (), "not YAML: an escape or directive that is out of range")
    return None, [*composer.problems, problem]


def _plainer(error: MarkedYAMLError, file: str) -> Problem:
    said = error.problem or ""
    row = next((row for row in _PLAINER if row[0] in said), ("", f"not YAML: {shown(said)}", False))
    mark = (error.context_mark if row[2] else None) or error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    return Problem.at(place, (), row[1])


def _place_of_index(text: str, index: int, file: str) -> Place:
    before = text[:index]
    return Place(file, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)


class _Composer:
    """Events to nodes, within the bounds."""

    def __init__(self, text: str, file: str) -> None:
        yaml = YAML(typ="safe", pure=True)
        yaml.Scanner = _BoundedScanner
        self._events: Iterator[Any] = yaml.parse(text)
        self._file = file
        self._anchors: dict[str, Node | None] = {}      # None: begun and not ended
        self._nodes = 0
        self._repeated = 0
        self._path: Path = ()
        self.place = Place(file, 1, 1)                  # of the latest event
        self.problems: list[Problem] = []

    def document(self) -> Map | None:
        """The one document of the file."""
        root: Node | None = None
        begun = False
        for event in self._events:
            self._note(event)
            if isinstance(event, (StreamStartEvent, StreamEndEvent, DocumentEndEvent)):
                continue
            if isinstance(event, DocumentStartEvent):
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
            raise _Stop(Problem.at(root.place, (), "expected a map of keys such as `routes:` at the top of the file"))
        return root

    def _note(self, event: Any) -> None:
        mark = event.start_mark
        if mark is not None:
            self.place = Place(self._file, mark.line + 1, mark.column + 1)

    def _stop(self, message: str) -> _Stop:
        return _Stop(Problem.at(self.place, self._path, message))

    def _next(self) -> Any:
        event = next(self._events)
        self._note(event)
        return event

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._repeat(event, depth)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise self._stop(f"more than {MOST_NODES:,} values in one file: split it")
        if depth > DEEPEST:
            raise self._stop(_TOO_DEEP)
        if event.ctag is not None:
            raise self._stop(_TAGS)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        node: Node
        if isinstance(event, ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, MappingStartEvent):
            node = self._map(depth)
        else:
            assert isinstance(event, SequenceStartEvent)
            node = self._items(depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _repeat(self, event: Any, depth: int) -> Node:
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
            raise self._stop(_TOO_DEEP)
        return node

    def _scalar(self, event: Any) -> Scalar:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self._stop("half of a surrogate pair: write the character itself")
        return Scalar(self.place, text, plain=event.style in (None, ""))

    def _map(self, depth: int) -> Map:
        place, path, size, height = self.place, self._path, 1, 0
        entries: dict[str, Entry] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                raise self._stop("a key must be plain text, not an alias, a map or a list")
            key_place, key = self.place, self._node(event, depth + 1)
            assert isinstance(key, Scalar)
            self._path = (*path, key.text)
            value = self._node(self._next(), depth + 1)
            size, height = size + value.size + 1, max(height, value.height)
            if key.text in entries:
                first = entries[key.text].place
                self.problems.append(Problem.at(key_place, self._path, f"given twice, first at {first}"))
            else:
                entries[key.text] = Entry(key_place, value)
            self._path = path
        return Map(place, entries, size, height + 1)

    def _items(self, depth: int) -> Items:
        place, path = self.place, self._path
        items: list[Node] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            self._path = (*path, len(items))
            items.append(self._node(event, depth + 1))
            self._path = path
        return Items(place, tuple(items), 1 + sum(n.size for n in items), 1 + max((n.height for n in items), default=0))
