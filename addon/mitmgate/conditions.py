"""Conditions of the rules (`when:`): CEL, compiled at load, typed against what a request has.

The evaluator is cel-cpp in cel-expr-python (decision 013): it checks types when it compiles and bounds iterations when
it runs. What it does not bound is bounded here, at load: the length, the nesting of `all`, `exists` and such, text
that is joined inside them, and regular expressions that do not compile.

Every field is a variable of its own with a dotted name, so that an unknown one is an error at load and only those that
an expression reads are converted, once for all conditions of one request. Source: the CEL specification, and OpenAI's
API reference for the fields.
"""

import difflib
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

import cel_expr_python.cel as cel

LONGEST: Final = 2_048                      # characters of one condition
MOST_LOOPS: Final = 4                       # `all`, `exists` and the like in one condition, none inside another
LARGEST_BODY: Final = 16 << 20              # bytes of a body whose lists and maps are converted: some 40 ms
MOST_VALUES: Final = 30_000                 # in them: each costs about a microsecond
_SMALL_BODY: Final = 32 << 10               # bytes; it cannot hold too many
MOST_PATTERNS: Final = 4                    # `matches` with a written-out regular expression, in one condition
LONGEST_PATTERN: Final = 128                # characters of one
MOST_REPEATS: Final = 20                    # that its `{n,m}` stand for, multiplied: RE2 copies what is repeated
MATCHED_BODY: Final = 256 << 10             # bytes of a body in whose lists and maps `matches` looks
MATCHED_VALUES: Final = 1_000               # in them: cel compiles the pattern anew for each
_KEPT: Final = 2_048                        # compiled conditions that are kept by their text
_LOOPS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_TYPE: Final = cel.Type


class Field(NamedTuple):
    """A field's type in CEL, and how its value is taken from JSON: None where it has another type, so is absent."""

    type: cel.Type
    take: Callable[[Any], Any]
    large: bool = False                     # as large as the body may be


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308 else None


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else None


def _map(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _any(value: Any) -> Any:
    return value


_TEXT: Final = Field(_TYPE.STRING, _text)
_FLAG: Final = Field(_TYPE.BOOL, _flag)
_WHOLE: Final = Field(_TYPE.INT, _whole)
_NUMBER: Final = Field(_TYPE.DOUBLE, _number)
_LIST: Final = Field(_TYPE.List(_TYPE.DYN), _list, large=True)
_MAP: Final = Field(_TYPE.Map(_TYPE.STRING, _TYPE.DYN), _map, large=True)
_ANY: Final = Field(_TYPE.DYN, _any, large=True)

BODY: Final[Mapping[str, Field]] = {
    "model": _TEXT, "stream": _FLAG, "messages": _LIST, "user": _TEXT, "n": _WHOLE,
    "max_tokens": _WHOLE, "max_completion_tokens": _WHOLE, "max_output_tokens": _WHOLE,
    "temperature": _NUMBER, "top_p": _NUMBER, "top_k": _WHOLE, "seed": _WHOLE, "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER, "logprobs": _FLAG, "top_logprobs": _WHOLE, "logit_bias": _MAP, "stop": _ANY,
    "tools": _LIST, "tool_choice": _ANY, "parallel_tool_calls": _FLAG, "functions": _LIST, "function_call": _ANY,
    "response_format": _MAP, "reasoning_effort": _TEXT, "reasoning": _MAP, "verbosity": _TEXT, "modalities": _LIST,
    "audio": _MAP, "prediction": _MAP, "stream_options": _MAP, "store": _FLAG, "metadata": _MAP, "service_tier": _TEXT,
    "prompt_cache_key": _TEXT, "safety_identifier": _TEXT, "web_search_options": _MAP,
    "input": _ANY, "prompt": _ANY, "instructions": _ANY, "previous_response_id": _TEXT, "conversation": _ANY,
    "include": _LIST, "truncation": _TEXT, "background": _FLAG, "text": _MAP, "system": _ANY, "thinking": _MAP,
    "dimensions": _WHOLE, "encoding_format": _TEXT, "suffix": _TEXT, "echo": _FLAG, "best_of": _WHOLE,
    "query": _TEXT, "documents": _LIST, "top_n": _WHOLE, "voice": _ANY, "response_modalities": _LIST,
    "size": _TEXT, "quality": _TEXT, "language": _TEXT, "project_id": _TEXT, "min_reasoning_level": _TEXT,
    "fallback": _ANY, "retries": _WHOLE, "timeout": _NUMBER, "load_balance": _MAP, "guardrails": _ANY,
    "prompt_id": _TEXT, "gateflow": _MAP, "options": _MAP,
}  # fmt: skip
"""What stands in a JSON body, under `request.`: OpenAI's chat, responses, completions, embeddings, images, audio, and ours."""

AROUND: Final[Mapping[str, cel.Type]] = {
    "request.given": _TYPE.List(_TYPE.STRING),      # the names of the body's members
    "request.bytes": _TYPE.INT,                     # the body's size
    "operation": _TYPE.STRING, "path": _TYPE.STRING, "method": _TYPE.STRING, "host": _TYPE.STRING,
    "client": _TYPE.STRING, "header": _TYPE.Map(_TYPE.STRING, _TYPE.STRING), "project": _TYPE.STRING,
    "tenant": _TYPE.STRING, "task": _TYPE.STRING, "tag": _TYPE.Map(_TYPE.STRING, _TYPE.STRING),
}  # fmt: skip
"""What a condition may read beside the body."""

# A body that lacks them is read as if they stood there with these, their documented defaults.
_DEFAULTS: Final[Mapping[str, Any]] = {"stream": False, "messages": [], "tools": []}

_ENVIRONMENT: Final = cel.NewEnv(
    variables={**{f"request.{name}": each.type for name, each in BODY.items()}, **AROUND}
)


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """One condition, compiled."""

    text: str
    expression: cel.Expression = field(repr=False)
    reads_large: bool                       # it may read lists or maps of the body, which are as large as that
    matches: bool = False                   # it compares with regular expressions

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Compile, once for each text. Raises ValueError whose message says what is wrong and where in the text."""
        return _parse(text)

    @classmethod
    def compiled(cls, text: str) -> "Condition":
        """`parse`, anew."""
        if len(text) > LONGEST:
            raise ValueError(f"the condition is longer than {LONGEST} characters: split the route")
        tokens = list(_tokens(text))
        _bound(tokens)
        try:
            expression = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise ValueError(_plainer(str(error), text)) from None
        kind = expression.return_type()
        if kind != _TYPE.BOOL:
            if any(word.text == "has" for word in tokens):
                raise ValueError('`has()` does not read fields here: write `"tools" in request.given`')
            raise ValueError(f"the condition gives {kind.name()}, not true or false")
        large = any(each.large and f"request.{name}" in text for name, each in BODY.items())
        return cls(text, expression, large, any(word.text == "matches" for word in tokens))


_parse: Final = functools.lru_cache(_KEPT)(Condition.compiled)


def weigh(text: str) -> int:
    """What compiling costs, in characters of plain CEL (some 13 µs each): those of regular expressions count as often as
    they are repeated."""
    if "{" not in text:
        return len(text)
    patterns = [token.text for token in _tokens(text) if token.kind == "string" and "{" in token.text]
    return len(text) + sum(len(pattern) * min(_repeats(pattern), MOST_REPEATS) for pattern in patterns)


class Facts:
    """What conditions read of one request; converted at the first condition, and once."""

    __slots__ = ("_activation", "_around", "_document", "_read", "_size", "_too_large")

    def __init__(self, document: Mapping[str, Any] | None, size: int, around: Mapping[str, Any]) -> None:
        """`document`: the JSON body; `size`: its bytes; `around`: what is there of the fields of `AROUND`."""
        self._document = document or {}
        self._read = document is not None or size == 0      # else there is a body that nobody could look into
        self._size = size
        self._around = around
        self._activation: cel.Activation | None = None
        self._too_large: bool | None = None

    def hold(self, condition: Condition) -> bool | None:
        """Whether the condition holds; None where it cannot be said: it reads what this request does not have."""
        if condition.reads_large and condition.matches and self._is_too_long():
            return None
        if self._size > _SMALL_BODY and condition.reads_large and self._is_too_large():
            return None
        if self._activation is None:
            self._activation = _ENVIRONMENT.Activation(data=self._values())
        try:
            value = condition.expression.eval(self._activation).value()
        except RuntimeError:                # the iteration budget, or text that is no Unicode
            return None
        return value if isinstance(value, bool) else None

    def _is_too_large(self) -> bool:
        if self._too_large is None:
            large = [value for name, value in self._document.items() if name in BODY and BODY[name].large]
            self._too_large = self._size > LARGEST_BODY or _more_than(MOST_VALUES, large)
        return self._too_large

    def _is_too_long(self) -> bool:
        """For regular expressions, which take far longer over each value and each character."""
        if self._size > MATCHED_BODY:
            return True
        return _more_than(MATCHED_VALUES, [value for name, value in self._document.items() if name in BODY])

    def _values(self) -> dict[str, Any]:
        document = self._document
        values: dict[str, Any] = {"request.bytes": self._size}
        if self._read:
            values["request.given"] = list(document)
            values.update((f"request.{name}", default) for name, default in _DEFAULTS.items() if name not in document)
        for name in document.keys() & BODY.keys():
            if (value := BODY[name].take(document[name])) is not None:
                values[f"request.{name}"] = value
        values.update(self._around)         # the model of the path goes before the body's
        return values


def _more_than(most: int, values: list[Any]) -> bool:
    """Whether there are more values than `most` in these, however deep. Looks at no more than it must."""
    waiting = values
    while waiting:
        most -= len(waiting)
        if most < 0:
            return True
        inner: list[Any] = []
        for value in waiting:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            if len(inner) > most:
                return True
        waiting = inner
    return False


class _Token(NamedTuple):
    text: str
    start: int                              # characters from the beginning
    kind: str                               # name, string, sign


_TOKEN: Final = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>\S)""",
    re.DOTALL,
)


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        yield _Token(found[0], found.start(), str(found.lastgroup))


def _bound(tokens: list[_Token]) -> None:
    """What an expression may cost whatever the request is, since each step of a loop is paid for by everybody."""
    if sum(token.text == "matches" for token in tokens) > MOST_PATTERNS:
        raise ValueError(f"more than {MOST_PATTERNS} of `matches`: use globs where they will do")
    loops: list[bool] = []                  # of the open brackets: whether each belongs to a loop
    count = 0
    for position, token in enumerate(tokens):
        if token.kind != "sign":
            if any(loops) and token.text == "request" and _is_large(tokens, position):
                raise ValueError(f"at character {token.start + 1}: `all`, `exists` and such do not look at another list inside")
            continue
        if token.text in "([{":
            before = tokens[position - 1] if position else None
            loop = token.text == "(" and before is not None and before.kind == "name" and before.text in _LOOPS
            if loop and any(loops):
                raise ValueError(f"at character {token.start + 1}: `all`, `exists` and such cannot stand inside one another")
            count += loop
            if count > MOST_LOOPS:
                raise ValueError(f"more than {MOST_LOOPS} of `all`, `exists` and such")
            loops.append(loop)
            _check_pattern(tokens, position, inside=any(loops))
        elif token.text in ")]}" and loops:
            loops.pop()
        elif token.text == "+" and any(loops):
            raise ValueError(f"at character {token.start + 1}: nothing is added or joined inside `all`, `exists` and such")


def _is_large(tokens: list[_Token], position: int) -> bool:
    """Whether `request` here is that of a list or map of the body."""
    name = tokens[position + 2].text if position + 2 < len(tokens) else ""
    return name in BODY and BODY[name].large


def _check_pattern(tokens: list[_Token], position: int, *, inside: bool) -> None:
    """A regular expression must be written out: it is compiled now, where cel would notice at the first request."""
    if position == 0 or tokens[position - 1].text != "matches" or tokens[position].text != "(":
        return
    following = tokens[position + 1] if position + 1 < len(tokens) else None
    if following is None or following.kind != "string":
        raise ValueError(f"at character {tokens[position].start + 1}: `matches` takes a regular expression in quotes")
    if inside and _COUNTED.search(following.text):
        raise ValueError(f"at character {following.start + 1}: nothing is repeated by `{{…}}` inside `all`, `exists` and such")
    if len(following.text) > LONGEST_PATTERN or _repeats(following.text) > MOST_REPEATS:
        raise ValueError(
            f"at character {following.start + 1}: the regular expression is longer than {LONGEST_PATTERN} characters, "
            f"or repeats more than {MOST_REPEATS:,} times"
        )
    try:
        tried = _ENVIRONMENT.compile(f'"".matches({following.text})').eval(data={})
    except RuntimeError:
        return                              # what is wrong with the text itself is said when all is compiled
    if tried.type() == _TYPE.ERROR:
        raise ValueError(f"at character {following.start + 1}: the regular expression is none that RE2 knows")


_COUNTED: Final = re.compile(r"\{([0-9]{1,9})(?:,([0-9]{0,9}))?\}")


def _repeats(pattern: str) -> int:
    """How often a regular expression copies a part of itself, at most: all its `{n,m}` as if each stood inside the others."""
    return math.prod(max(int(found[1]), int(found[2] or 1), 1) for found in _COUNTED.finditer(pattern))


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


def _plainer(said: str, text: str) -> str:
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
    tokens = list(_tokens(text)) if index is not None else []
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
