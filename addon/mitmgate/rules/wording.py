"""pydantic's errors in the words of the rules: what was expected, what was found, what may have been meant.

What was found is read from the file's own text, never from the value: a value may have come from the environment. In
credentials, and in headers and URLs that may hold one, nothing that was found is repeated at all.
"""

import difflib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mitmgate.rules.nodes import Items, Map, Node, Scalar
from mitmgate.rules.positions import MOST_PROBLEMS, Path, Problem, shown
from mitmgate.rules.schema import Credential, Rules
from mitmgate.rules.units import duration_meant
from mitmgate.rules.values import Values, resolve

_COMPARISONS: Final = 5_000                # names compared for all did-you-means of one load: difflib is slow
# What may hold a secret beside credentials, by the key that it stands under.
_KEPT_QUIET: Final[Mapping[str | int, frozenset[str]]] = MappingProxyType({
    "providers": frozenset({"headers", "base_url", "proxy"}),
    "egress": frozenset({"proxy"}),
    "state": frozenset({"database", "counters", "blobs"}),
    "prompts": frozenset({"host"}),
    "telemetry": frozenset({"otlp"}),
    "notify": frozenset({"webhook"}),
})
_FEW: Final = 6                             # choices that a message lists although it knows which was meant
_FROM_FILES: Final = frozenset({"teams"})  # of the document, and written as files of their own
_EXPECTED: Final[Mapping[str, str]] = MappingProxyType(
    {"model_type": "a map", "dict_type": "a map", "tuple_type": "a list", "model_attributes_type": "a map"}
)


class Suggestions:
    """Did-you-means, as many as can be found in reasonable time."""

    def __init__(self) -> None:
        self._left = _COMPARISONS

    def meant(self, word: str, known: Collection[str]) -> str:
        """`; did you mean …?`, or nothing if no known word is near."""
        self._left -= len(known)
        if self._left < 0 or len(word) > 64:
            return ""
        near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
        return f"; did you mean `{shown(near[0])}`?" if near else ""


def reworded(error: ValidationError, values: Values, suggestions: Suggestions) -> list[Problem]:
    """Every error of the schema at its place, or as many as are ever told."""
    details = error.errors(include_url=False, include_input=False)[: MOST_PROBLEMS + 1]
    return [_problem(each, values, suggestions) for each in details]


def _problem(error: ErrorDetails, values: Values, suggestions: Suggestions) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    path = _real(error["loc"], values)
    if kind == "missing":
        key = str(error["loc"][-1])
        return Problem.at(values.owner(path), (*path, key), "missing: write `version: 1`" if not path else "missing")
    if kind == "absent":                     # a key that only some such maps need
        return Problem.at(values.owner(path), (*path, context["key"]), "missing")
    if kind == "extra_forbidden":
        return _unknown(path, values, suggestions)
    if path in values.empty:
        return no_value(path, values)
    if error["loc"][-1:] == ("[key]",):
        message = error["msg"] if kind == "broken" else f"expected {context.get('what', 'text')} as the key"
        return Problem.at(values.owner(path), path, message)
    if kind == "broken":
        return Problem.at(values.place(path), path, error["msg"])
    node = values.nodes[path]
    if kind == "literal_error":
        choices = _choices(context["expected"])
        what = ", ".join(choices[:-1]) + f" or {choices[-1]}" if len(choices) > 1 else choices[0]
        near = suggestions.meant(node.text, choices) if isinstance(node, Scalar) else ""
        if near and len(choices) > _FEW:
            return Problem.at(values.place(path), path, f"unknown {_key(path)} {found(node, path)}{near}")
        return Problem.at(values.place(path), path, f"expected {what}, found {found(node, path)}{near}")
    what = context.get("what") or _EXPECTED.get(kind, "another kind of value")
    return Problem.at(values.place(path), path, f"expected {what}, found {found(node, path)}{_instead(what, node, path)}")


def _instead(what: str, node: Node, path: Path) -> str:
    """How to write what was meant, where that is clear."""
    if what == "text" and _is_number(node):
        return ": put it in quotes"
    if what.startswith("a duration such as") and isinstance(node, Scalar) and not _quiet(path):
        meant = duration_meant(node.text)
        return f": write {meant}" if meant else ""
    return ""


def no_value(path: Path, values: Values) -> Problem:
    """A key that stands there without a value: it is not guessed what was meant, it might open the gateway."""
    return Problem.at(values.owner(path), path, "has no value: write one, or leave the key out")


def _real(loc: Sequence[str | int], values: Values) -> Path:
    """pydantic's path without what is in no file: unions' tags, `[key]`, a single value's index, a missing key."""
    path: Path = ()
    for part in loc:
        if (*path, part) in values.nodes:
            path = (*path, part)
    return path


def _unknown(path: Path, values: Values, suggestions: Suggestions) -> Problem:
    key, owner = str(path[-1]), path[:-1]
    known = known_keys(owner)
    place = values.owner(path)
    listing = "; expected one of " + ", ".join(known)
    if Credential in _sections_on(owner):
        quiet = owner if len(key) > 16 or not key.isalpha() else path   # `{sk-…}`: a secret where its kind belongs
        return Problem.at(place, quiet, f"unknown key{listing}")
    if key == "<<":
        return Problem.at(place, path, "merge keys are not part of YAML 1.2: repeat what they would bring")
    return Problem.at(place, path, f"unknown key{suggestions.meant(key, known) or listing}")


def known_keys(path: Path) -> list[str]:
    """The keys that the map at `path` may have."""
    sections: list[type[BaseModel]] = [Rules, *_sections_on(path)]
    return [field.alias or name for name, field in sections[-1].model_fields.items() if path or name not in _FROM_FILES]


def _sections_on(path: Path) -> list[type[BaseModel]]:
    """The sections that the way to `path` leads through, each once, the document left out."""
    found: list[type[BaseModel]] = []
    section: type[BaseModel] = Rules
    named = False                           # the next part is a name that an operator gave
    for part in path:
        if named or isinstance(part, int):
            named = False
            continue
        field = next((f for name, f in section.model_fields.items() if (f.alias or name) == part), None)
        if field is None:
            break
        if inner := _sections(field.annotation):
            section = inner[0]
            found.append(section)
        named = bool(inner) and get_origin(field.annotation) is dict
    return found


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _key(path: Path) -> str:
    """The last key of a path: what a list's items are is its key's word."""
    return next(part for part in reversed(path) if isinstance(part, str))


def _choices(text: str) -> list[str]:
    """The words in pydantic's "'pass' or 'refuse'"."""
    return [word.strip().strip("'") for word in text.replace(" or ", ",").split(",")]


def found(node: Node, path: Path) -> str:
    """What stands in the file, as far as a message may say it."""
    match node:
        case Map():
            return "a map"
        case Items():
            return "a list" if node.items else "an empty list"
    if _quiet(path):
        return "a number" if _is_number(node) else "something else"
    if node.plain and not node.text:
        return "nothing"
    if node.plain and "${" not in node.text and not isinstance(_resolved(node), str):
        return node.text
    if not node.plain and not isinstance(_resolved(node), str):
        return f"`{shown(node.text)}` in quotes"
    return f"`{shown(node.text)}`"


def _quiet(path: Path) -> bool:
    return bool(_KEPT_QUIET.get(path[0], frozenset()).intersection(map(str, path))) or Credential in _sections_on(path)


def _is_number(node: Node) -> bool:
    if not isinstance(node, Scalar) or not node.plain:
        return False
    value = _resolved(node)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _resolved(node: Scalar) -> object:
    try:
        return resolve(node.text)
    except ValueError:
        return node.text
