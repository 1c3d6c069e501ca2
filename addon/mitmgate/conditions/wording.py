"""What is wrong with a condition, from cel's messages, in the words of someone who writes rules."""

import difflib
import re
from collections.abc import Mapping
from itertools import islice
from typing import Final

from mitmgate.conditions.fields import AROUND, BODY
from mitmgate.conditions.tokens import tokens_of

_MOST_SAID: Final = 8                       # of cel's messages about one text, that are looked at
_SAID: Final = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")
_OVERLOAD: Final = re.compile(r"found no matching overload for '([^']*)' applied to '(.*)'")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_DASHED: Final = re.compile(r"\b(tag|header)\.([A-Za-z_]\w*(?:-\w+)+)")
_FUNCTIONS: Final = (
    "contains", "startsWith", "endsWith", "matches", "size", "exists", "all", "map", "filter", "exists_one", "int", "double",
    "string",
)  # fmt: skip
# What other languages write, and CEL's own.
_SIGNS: Final[Mapping[str, str]] = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!"}
_WORDS: Final[Mapping[str, str]] = {"true": "true", "false": "false", "none": "null", "null": "null"}
_OTHERS: Final[Mapping[str, str]] = {"len": "size", "length": "size", "count": "size", "str": "string", "float": "double"}


def plainer(said: str, text: str) -> str:
    """cel's own message: its first line, without what only its authors need."""
    told = list(islice(_SAID.finditer(said), _MOST_SAID))
    if not told:
        return "the condition is nested too deeply" if "recursion" in said else "not a condition in CEL"
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    placed = [(_index(int(each[1]), int(each[2]), starts), each[3]) for each in told]
    # Of a misspelt `exists(m, …)` cel tells `m` first: the function's name is the cause.
    index, message = next((each for each in placed if _misspelt_function(*each, text)), placed[0])
    if "recursion" in message:
        return "the condition is nested too deeply"
    where = f"at character {index + 1}: " if index is not None else ""
    if undeclared := _UNDECLARED.search(message):
        name = undeclared[1]
        called = index is not None and text[index : index + 1] == "("
        if called and name in _FUNCTIONS:
            return f"{where}`{name}` takes other arguments"
        hint = _dashed(text, index) or (_meant_function(name) if called else _meant(name))
        return f"{where}unknown name `{name}`{hint}"
    if overload := _OVERLOAD.search(message):
        sign = overload[1].strip("_") or overload[1]
        hint = "; write a whole number as 1.0 there" if overload[2] in ("(double, int)", "(int, double)") else ""
        return f"{where}`{sign}` does not go with {overload[2]}{hint or (_dashed(text, index) if sign == '-' else '')}"
    if message.startswith("Syntax error"):
        return _foreign(text, index) or f"{where}not CEL: {message.removeprefix('Syntax error: ').split(' expecting ')[0]}"
    return f"{where}{message}"


def _index(line: int, column: int, starts: list[int]) -> int | None:
    """Where cel's line and column are in the text; None where it names no place."""
    return starts[line - 1] + column - 1 if 0 < line <= len(starts) else None


def _misspelt_function(index: int | None, message: str, text: str) -> bool:
    found = _UNDECLARED.search(message)
    return found is not None and index is not None and text[index : index + 1] == "(" and bool(_meant_function(found[1]))


def _meant(name: str) -> str:
    if name in BODY:
        return f"; did you mean `request.{name}`?"
    if word := _WORDS.get(name.lower()):
        return f"; did you mean `{word}`?"
    known = sorted({*(f"request.{each}" for each in BODY), *AROUND})
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


def _meant_function(name: str) -> str:
    plain = name.lower().replace("_", "")
    alike = [each for each in _FUNCTIONS if each.lower().replace("_", "") == plain]
    near = alike or [each for each in (_OTHERS.get(plain),) if each] or difflib.get_close_matches(name, _FUNCTIONS, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _dashed(text: str, index: int | None) -> str:
    """`tag.cost-center` is a subtraction in CEL: how to write the name, if the place is inside such a one."""
    if index is None:
        return ""
    around = (found for found in _DASHED.finditer(text) if found.start() < index < found.end())
    return next((f'; write `{found[1]}["{found[2]}"]`' for found in around), "")


def _foreign(text: str, index: int | None) -> str:
    """What is written as in other languages, where cel noticed it or right before; or nothing."""
    tokens = tokens_of(text) if index is not None else []
    position = next((number for number, each in enumerate(tokens) if each.start == index), None)
    if position is None:
        return ""
    noticed = tokens[position]
    before = tokens[position - 1] if position else noticed
    if noticed.text in "“”„‘’«»":
        return f"at character {noticed.start + 1}: not CEL: write straight quotes, \" or '"
    for token in (noticed, before) if before.text.lower() == "not" else (noticed,):
        if (meant := _SIGNS.get(token.text.lower())) and token.kind != "string":
            return f"at character {token.start + 1}: not CEL: write `{meant}` instead of `{token.text}`"
    return ""
