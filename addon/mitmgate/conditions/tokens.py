"""The words of a condition, as CEL's own lexer would divide it: what bounds a text must see what is compiled.

Source: the CEL specification, "Syntax", and the lexer rules of cel-cpp's grammar.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple


class Token(NamedTuple):
    """A name, a string with its quotes, or a single character of anything else."""

    text: str
    start: int                              # characters from the beginning
    kind: str                               # name, string, sign


_TOKEN: Final = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<string> [bB]?(?:
          [rR](?: \"{3}.*?\"{3} | '{3}.*?'{3} | "[^"\n\r]*" | '[^'\n\r]*' )       # a backslash means nothing in these
        | \"{3}(?:[^\\]|\\.)*?\"{3} | '{3}(?:[^\\]|\\.)*?'{3}
        | "(?:[^"\\\n\r]|\\.)*" | '(?:[^'\\\n\r]|\\.)*'
      ))
    | `(?P<quoted> [A-Za-z0-9_./ -]+ )`
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> \S )
    """,
    re.DOTALL | re.VERBOSE,
)


def tokens_of(text: str) -> list[Token]:
    """Without comments. A field's name in backticks is a name like any other."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    for found in _TOKEN.finditer(text):
        kind = str(found.lastgroup)
        if kind == "quoted":
            yield Token(found["quoted"], found.start(), "name")
        elif kind != "comment":
            yield Token(found[0], found.start(), kind)
