"""What an expression may cost, whatever the request is: judged by its text at load."""

import math
import re
from typing import Final

import cel_expr_python.cel as cel

from mitmgate.conditions.fields import BODY, ENVIRONMENT
from mitmgate.conditions.tokens import Token, tokens_of

LONGEST: Final = 2_048                      # characters of one condition
MOST_LOOPS: Final = 4                       # `all`, `exists` and the like in one condition, none inside another
MOST_PATTERNS: Final = 4                    # `matches` in one condition
LONGEST_PATTERN: Final = 128                # characters of one's regular expression
MOST_REPEATS: Final = 20                    # that its `{n,m}` stand for, multiplied: RE2 copies what is repeated
_LOOPS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})


def bound(tokens: list[Token]) -> None:
    """Raises ValueError for what may cost too much, since each step of a loop is paid for by everybody."""
    if sum(token.text == "matches" for token in tokens) > MOST_PATTERNS:
        raise ValueError(f"more than {MOST_PATTERNS} of `matches`: use globs where they will do")
    loops: list[bool] = []                  # of the open brackets: whether each belongs to a loop
    count = 0
    for position, token in enumerate(tokens):
        if token.kind != "sign":
            if any(loops) and _is_large(tokens, position):
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


def reads_large(tokens: list[Token]) -> bool:
    """Whether it may read lists or maps of the body, which are as large as that."""
    return any(_is_large(tokens, position) for position in range(len(tokens)))


def _is_large(tokens: list[Token], position: int) -> bool:
    """Whether a list or map of the body is named here: `request`, a dot, and the name."""
    if tokens[position].text != "request" or position + 2 >= len(tokens):
        return False
    name = tokens[position + 2].text
    return name in BODY and BODY[name].large


def _check_pattern(tokens: list[Token], position: int, *, inside: bool) -> None:
    """A regular expression must be written out: it is compiled now, where cel would notice at the first request.

    Only as `TEXT.matches("…")`: of anything longer in the brackets, what a client sends may be a part.
    """
    if position == 0 or tokens[position - 1].text != "matches" or tokens[position].text != "(":
        return
    before = tokens[position - 2].text if position > 1 else ""
    following = [*tokens[position + 1 : position + 3], None, None]
    written, closing = following[0], following[1]
    if before != "." or written is None or written.kind != "string" or closing is None or closing.text != ")":
        raise ValueError(f"at character {tokens[position].start + 1}: `matches` takes a regular expression in quotes")
    pattern = _value(written)
    if inside and _COUNTED.search(pattern):
        raise ValueError(f"at character {written.start + 1}: nothing is repeated by `{{…}}` inside `all`, `exists` and such")
    if len(pattern) > LONGEST_PATTERN or _repeats(pattern) > MOST_REPEATS:
        raise ValueError(
            f"at character {written.start + 1}: the regular expression is longer than {LONGEST_PATTERN} characters, "
            f"or repeats more than {MOST_REPEATS:,} times"
        )
    try:
        tried = ENVIRONMENT.compile(f'"".matches({written.text})').eval(data={})
    except RuntimeError:
        return                              # what is wrong with the text itself is said when all is compiled
    if tried.type() == cel.Type.ERROR:
        raise ValueError(f"at character {written.start + 1}: the regular expression is none that RE2 knows")


def _value(token: Token) -> str:
    """What a string stands for, where that may differ from how it is written: `\\x7b` is a brace."""
    if "\\" not in token.text:
        return token.text
    try:
        return str(ENVIRONMENT.compile(token.text).eval(data={}).value())
    except RuntimeError:
        return token.text                   # cel says what is wrong with it


_COUNTED: Final = re.compile(r"\{([0-9]{1,9})(?:,([0-9]{0,9}))?\}")


def _repeats(pattern: str) -> int:
    """How often a regular expression copies a part of itself, at most: all its `{n,m}` as if each stood inside the others."""
    return math.prod(max(int(found[1]), int(found[2] or 1), 1) for found in _COUNTED.finditer(pattern))


def weigh(text: str) -> int:
    """What compiling costs, in characters of plain CEL (some 13 µs each): those of regular expressions count as often as
    they are repeated."""
    if "matches" not in text:
        return len(text)
    patterns = [_value(token) for token in tokens_of(text[:LONGEST]) if token.kind == "string"]
    return len(text) + sum(len(pattern) * min(_repeats(pattern), MOST_REPEATS) for pattern in patterns)
