"""YAML text to events, by the faster of two parsers that agree.

Theory of operation. ruamel.yaml reads YAML 1.2 and says well what is wrong, at some 60,000 events a second; libyaml
(PyYAML's C parser) reads YAML 1.1, eight times as fast. Scalars are text to us, so most of what differs between the two
versions does not show; where the rest could, `NotAlike` is raised and the file is read by ruamel.yaml, as is every file
that libyaml refuses. So libyaml changes how long reading takes and not what is read (tests/rules/test_two_parsers.py;
docs/decisions/012). Without libyaml all files are ruamel.yaml's.
"""

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import ruamel.yaml.events
import yaml.events
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from mitmgate.rules.positions import Place, Problem, shown

HAS_LIBYAML: Final[bool] = yaml.__with_libyaml__
DEEPEST: Final = 32
TOO_DEEP: Final = f"more than {DEEPEST} levels deep"
TAGS: Final = "tags (`!…`) are not allowed: write the value alone, in quotes if it begins with `!`"

# What one of the two reads otherwise or refuses, and its name in a message.
_NOT_ALIKE: Final = re.compile(r"[\t\ufeff\x85\u2028\u2029]|(?<![^\r\n])%|[|>][-+0-9]{0,2} *(?:#|(?:\r?\n)+ +(?![^\r\n]))")
_HINTS: Final = ("\t", "%", "|", ">", "\ufeff", "\x85", "\u2028", "\u2029")     # looked for first, which is ten times as fast
_NAMES: Final = {
    "\t": "a tab",
    "\ufeff": "a byte order mark inside",
    "%": "a line that begins with `%`",
    "|": "a comment or a line of spaces right behind `|`",
    ">": "a comment or a line of spaces right behind `>`",
}
# An anchor's name ends here in both; `&a:` and `*a.b` are names of their own in YAML 1.2.
_NAME_ENDS: Final = frozenset(" \r\n,]}")


class NotAlike(Exception):
    """The two parsers might read this text differently: ruamel.yaml decides. `what` of it, and where."""

    def __init__(self, what: str, line: int, column: int) -> None:
        super().__init__(what)
        self.what, self.line, self.column = what, line, column


class Libyaml:
    """The events of libyaml, and its refusals as problems. Raises `NotAlike` for a text that it may not read."""

    kinds: ModuleType = yaml.events
    refusals: tuple[type[Exception], ...] = (yaml.YAMLError,)
    half_characters = False                 # it refuses an escape of one

    def __init__(self, text: str) -> None:
        self._text = text
        if any(hint in text for hint in _HINTS) and (found := _NOT_ALIKE.search(text)):
            what = _NAMES.get(found[0][0], "an unusual line end")
            place = _place_of_index(text, found.start(), "")
            raise NotAlike(what, place.line, place.column)

    def events(self) -> Iterator[Any]:
        """Every event, read as it is asked for."""
        return iter(yaml.CLoader(self._text).get_event, None)

    def look_at_name(self, event: Any) -> None:
        """Of an alias, or of a node's anchor. Raises `NotAlike` where the name might go on in YAML 1.2."""
        mark = event.start_mark
        end = mark.index + 1 + len(event.anchor)
        if end < len(self._text) and self._text[end] not in _NAME_ENDS:
            raise NotAlike("a name of this kind behind `&` or `*`", mark.line + 1, mark.column + 1)

    def look_at_key(self, event: Any) -> None:
        """That is no text. Raises `NotAlike` where a name may be why: `? &a: ` has a map for its key here, text in YAML 1.2."""
        mark = event.start_mark
        if self._text[mark.index : mark.index + 1] in ("&", "*"):
            raise NotAlike("a name of this kind behind `&` or `*`", mark.line + 1, mark.column + 1)

    def look_at_nothing(self, event: Any) -> None:
        """A key or list item of which nothing is written. Raises `NotAlike`, for libyaml places it elsewhere."""
        mark = event.start_mark
        raise NotAlike("a key or list item without any text", mark.line + 1, mark.column + 1)

    def problem(self, error: Exception, file: str, latest: Place) -> Problem:
        """What was wrong with the text."""
        if isinstance(error, yaml.reader.ReaderError):
            index = len(self._text.encode()[: error.position].decode(errors="ignore"))
            return _control_character(self._text, index, int(error.character), file)
        if not isinstance(error, yaml.MarkedYAMLError):
            return Problem.at(latest, (), _OUT_OF_RANGE)
        mark = error.problem_mark
        if "node content" in (error.problem or "") and mark is not None and mark.index >= len(self._text.rstrip("\r\n")):
            error.problem = "found '<stream end>'"      # as ruamel.yaml says
        return _plainer(error, file)


class Ruamel:
    """The events of ruamel.yaml, and its refusals as problems."""

    kinds: ModuleType = ruamel.yaml.events
    # ValueError: chr() of an escape beyond Unicode, a %YAML directive that is no number: ruamel checks neither
    refusals: tuple[type[Exception], ...] = (YAMLError, ValueError, OverflowError)
    half_characters = True

    def __init__(self, text: str) -> None:
        self._text = text

    def events(self) -> Iterator[Any]:
        """Every event, read as it is asked for."""
        reader = YAML(typ="safe", pure=True)
        reader.Scanner = _BoundedScanner
        events: Iterator[Any] = reader.parse(self._text)
        return events

    def look_at_name(self, event: Any) -> None:
        """What it says holds."""

    def look_at_key(self, event: Any) -> None:
        """It is what it is."""

    def look_at_nothing(self, event: Any) -> None:
        """Its place holds."""

    def problem(self, error: Exception, file: str, latest: Place) -> Problem:
        """What was wrong with the text."""
        if isinstance(error, ReaderError):
            return _control_character(self._text, error.position, error.character, file)
        return _plainer(error, file) if isinstance(error, MarkedYAMLError) else Problem.at(latest, (), _OUT_OF_RANGE)


type Parser = Libyaml | Ruamel


class _BoundedScanner(Scanner):
    """Refuses deep flow collections before ruamel does: its look-ahead is quadratic in the brackets that are open."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: Any) -> None:
        if self.flow_level > DEEPEST:
            raise ScannerError(None, None, TOO_DEEP, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


_OUT_OF_RANGE: Final = "not YAML: an escape or directive that is out of range"
_OPEN_LIST: Final = "a list in brackets that is not closed, or holds text that must be in quotes"
_OPEN_MAP: Final = "a map in braces that is not closed, or holds text that must be in quotes"

# What the parsers say, what an operator can act on, and whether that is where the thing began and not where it was
# noticed. The first row whose text occurs in the error holds. Those with "did not find" are libyaml's alone.
_PLAINER: Final = (
    (TOO_DEEP, TOO_DEEP, False),
    ("character '\\t'", "a tab: indent with spaces", False),
    ("tag", TAGS, False),
    ("expected ' ', but found", TAGS, True),                            # `[!a]`, `{b: !a}`: the tag reaches up to the bracket
    ("expected URI, but found", TAGS, True),
    ("did not find expected whitespace or line break", TAGS, True),
    ("found character '%'", "text that begins with `%` must be in quotes", False),
    ("found character '@'", "text that begins with `@` must be in quotes", False),
    ("found character '`'", "text that begins with a backtick must be in quotes", False),
    ("found character that cannot start", "text that begins with `%`, `@` or a backtick must be in quotes", False),
    ("found unexpected ':'", "a `:` where none is expected: put the text in quotes", False),
    ("mapping values are not", "a `key:` where none is expected: check the indentation, or quote the text", False),
    ("could not find expected ':'", "a key without its `:`", True),
    ("expected <block end>", "the indentation does not fit the lines above", False),
    ("did not find expected key", "the indentation does not fit the lines above", False),
    ("did not find expected '-'", "the indentation does not fit the lines above", False),
    ("alphabetic or numeric character", "text that begins with `&` or `*` must be in quotes", False),
    ("expected ',' or ']'", _OPEN_LIST, True),
    ("expected ',' or '}'", _OPEN_MAP, True),
    ("found '<stream end>'", "the file ends where a value is expected: a list or map is not closed", False),
    ("expected the node content", "a value is expected here: text that begins with a sign must be in quotes", False),
    ("expected node content", "a value is expected here: text that begins with a sign must be in quotes", False),
    ("unexpected end of stream", "a text in quotes that is not closed", True),
    ("sequence entries are not allowed", "a `- ` where none is expected: check the indentation", False),
    ("unknown escape character", "an unknown `\\` sequence: use single quotes, where `\\` has no meaning", False),
)


def _plainer(error: MarkedYAMLError | yaml.MarkedYAMLError, file: str) -> Problem:
    said = error.problem or ""
    row = next((row for row in _PLAINER if row[0] in said), ("", f"not YAML: {shown(said)}", False))
    mark = (error.context_mark if row[2] else None) or error.problem_mark or error.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    return Problem.at(place, (), row[1])


def _control_character(text: str, index: int, character: int, file: str) -> Problem:
    return Problem.at(_place_of_index(text, index, file), (), f"the control character U+{character:04X} is not allowed")


def _place_of_index(text: str, index: int, file: str) -> Place:
    before = text[:index]
    return Place(file, before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1)
