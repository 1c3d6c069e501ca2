"""The merged tree to plain values for the schema, with the place of each.

Scalars follow YAML 1.2's core schema (section 10.3.2): `true`, `null`, numbers; `yes`, `on` and dates are text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mitmgate.rules.expand import Expanded, Expander, ExpandError
from mitmgate.rules.nodes import Items, Map, Node, Scalar
from mitmgate.rules.positions import MOST_PROBLEMS, Path, Place, Problem, step

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,20}|0o[0-7]{1,22}|0x[0-9a-fA-F]{1,16}")
_DIGITS: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBERS_BEGIN: Final = frozenset("+-.0123456789")
_WORDS: Final[Mapping[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}
# Where nothing after the key means an empty map or list: what is left when an operator comments all entries out.
_MAY_BE_EMPTY: Final = frozenset({
    "listen", "limits", "providers", "models", "routes", "aliases", "policies", "guardrails", "tiers", "projects", "budgets",
    "pipelines", "notify",
})  # fmt: skip
_MAY_BE_NULL: Final[Path] = ("telemetry", "otlp")      # `null`, written out, is: none


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar stands for. Raises ValueError for a number that JSON could not carry."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBERS_BEGIN:
        return text
    if _INTEGER.fullmatch(text):
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if -(2**63) <= number < 2**64:
            return number
    if _DIGITS.fullmatch(text):
        raise ValueError("the number has more than 64 bits: put it in quotes if it is a name")
    if _FLOAT.fullmatch(text):
        if math.isfinite(value := float(text)):
            return value
        raise ValueError("the number is too large: put it in quotes if it is a name")
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinity and not-a-number are not allowed: put it in quotes if it is a name")
    return text


def unexpanded(value: object) -> object:
    """What a plain scalar out of the environment stands for, where a number, boolean or JSON value is wanted."""
    if isinstance(value, Expanded):
        try:
            return resolve(str(value)) if value.plain else str(value)
        except ValueError:
            return str(value)
    return value


@dataclass(slots=True)
class Values:
    """The document as plain Python, and where everything in it stands."""

    data: dict[str, Any] = field(default_factory=dict)
    nodes: dict[Path, Node] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)      # of map entries
    empty: dict[Path, None] = field(default_factory=dict)      # keys and list items that have no value and need one
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> Place:
        """Of the value at `path`; of its key if the value is empty; else of what it would stand in."""
        node = self.nodes.get(path)
        if node is None:
            return self.owner(path[:-1])
        if isinstance(node, Scalar) and node.plain and not node.text:
            return self.owner(path)
        return node.place

    def owner(self, path: Path) -> Place:
        """Of the key or list item that `path` names; the first file's beginning for the whole document."""
        if path in self.keys:
            return self.keys[path]
        if path in self.nodes and path:
            return self.nodes[path].place
        return self.owner(path[:-1]) if path else Place(self.nodes[()].place.file, 1, 1)

    def written(self, path: Path) -> str:
        """The text that stands in the file, which is all of a value that messages may show."""
        node = self.nodes[path]
        return node.text if isinstance(node, Scalar) else ""

    def where(self) -> dict[str, str]:
        """Dotted path to `file:line`, for every map entry and list item."""
        found: dict[str, str] = {}
        steps: dict[str, str] = {}              # keys are few and repeat

        def look(node: Node, owner: str) -> None:
            if isinstance(node, Map):
                for key, entry in node.entries.items():
                    here = owner + (steps.get(key) or steps.setdefault(key, step(key)))
                    found[here.removeprefix(".")] = f"{entry.place.file}:{entry.place.line}"
                    look(entry.value, here)
            elif isinstance(node, Items):
                for index, item in enumerate(node.items):
                    found[f"{owner}[{index}]".removeprefix(".")] = f"{item.place.file}:{item.place.line}"
                    look(item, f"{owner}[{index}]")

        look(self.nodes[()], "")
        return found


def read_values(root: Map, environ: Mapping[str, str]) -> Values:
    """Expand and resolve every scalar of `root`."""
    values = Values()
    reader = _Reader(values, Expander(environ))
    data = reader.read(root, ())
    assert isinstance(data, dict)
    values.data = data
    return values


class _Reader:
    def __init__(self, values: Values, expander: Expander) -> None:
        self._values = values
        self._expander = expander

    def read(self, node: Node, path: Path) -> Any:
        self._values.nodes[path] = node
        if isinstance(node, Scalar):
            return self._scalar(node, path)
        if isinstance(node, Map):
            return self._map(node, path)
        return [self.read(item, (*path, index)) for index, item in enumerate(node.items)]

    def _map(self, node: Map, path: Path) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, entry in node.entries.items():
            here = (*path, key)
            self._values.keys[here] = entry.place
            value = self.read(entry.value, here)
            if value is not None or _is_json(here):
                read[key] = value
            elif here[:1] == ("providers",) and len(here) == 2:
                read[key] = {}              # `openai:` alone: a known vendor needs nothing
            elif here == _MAY_BE_NULL and isinstance(entry.value, Scalar) and entry.value.text:
                continue
            elif len(here) > 1 or key not in _MAY_BE_EMPTY:
                self._values.empty[here] = None
                read[key] = None
        return read

    def _scalar(self, node: Scalar, path: Path) -> str | int | float | bool | None:
        try:
            text = self._expander.expand(node.text, node.plain)
            if isinstance(text, Expanded) or not node.plain:
                return text
            value = resolve(text)
        except (ExpandError, ValueError) as error:
            if len(self._values.problems) <= MOST_PROBLEMS:
                self._values.problems.append(Problem.at(node.place, path, str(error)))
            return node.text
        if value is None and path and isinstance(path[-1], int) and not _is_json(path):
            self._values.empty[path] = None
        return value


def _is_json(path: Path) -> bool:
    """Whether the value at `path` is a JSON value of the operator's, in which null has a meaning."""
    return any(part in ("set", "default") and _has_parameters(path[:at]) for at, part in enumerate(path[:-1]))


def _has_parameters(owner: Path) -> bool:
    """Whether `owner` is a route or a target: those may set parameters."""
    inner = owner[2:] if owner[:1] == ("teams",) else owner
    if len(inner) == 2 and inner[0] == "routes":
        return True
    if len(inner) < 4 or inner[0] not in ("routes", "models"):
        return inner == ("vision", "describe_with")
    return isinstance(inner[-1], int) and inner[-2] in ("targets", "fallback")
