"""Tokens counted offline, as OpenAI's models since GPT-4o do it (`o200k_base`); others' counts lie near by.

The package `bpe-openai` is a Rust tokenizer, linear in its text whatever stands in it, inside a Python wrapper. The wrapper is
passed by: importing it reads three vocabularies into dictionaries (1.3 s and 70 MB), and it refuses long texts. The tokenizer
itself takes 0.2 s and 70 MB, when the first prompt has to be counted and not before. It keeps Python's lock while it counts,
so a long text is given to it in pieces, between which others get their turn. There are machines for which nobody builds it:
there nothing is counted, and no prompt is too long.
"""

from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Final, Protocol

PIECE: Final = 16_384                       # characters; at the slowest, random letters, 3 ms
_LOOK_BACK: Final = 64                      # characters in which a place is looked for where tokens end


class Tokenizer(Protocol):
    """The package's own."""

    def count(self, text: str) -> int:
        """Tokens, none of them special."""
        ...


@cache
def tokenizer() -> Tokenizer | None:
    """The tokenizer, loaded when it is first asked for; None: this machine has none."""
    package = find_spec("bpe_openai")
    found = PathFinder.find_spec("_bindings", package.submodule_search_locations) if package is not None else None
    if found is None or found.loader is None:
        return None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    made: Tokenizer = module.tokenizer_for_encoding("o200k_base")
    return made


def count(text: str) -> int:
    """Tokens of one text, where there is a tokenizer. A lone surrogate, which UTF-8 cannot say, counts as `?`."""
    counting = tokenizer()
    assert counting is not None
    try:
        return counting.count(text)
    except UnicodeEncodeError:
        return counting.count(text.encode("utf-8", "replace").decode())


def at_most(text: str) -> int:
    """Tokens that a text cannot have more of: each has at least a byte. Takes no time."""
    return len(text) if text.isascii() else 4 * len(text)


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of bounded length, cut where tokens end if there is such a place."""
    start = 0
    while len(text) - start > PIECE:
        end = _boundary(text, start + PIECE)
        yield text[start:end]
        start = end
    yield text[start:]


def _boundary(text: str, end: int) -> int:
    """The last place at or before `end` between a letter or digit and a space that a letter follows: no token spans it."""
    at = end
    for _ in range(_LOOK_BACK):
        at = text.rfind(" ", end - _LOOK_BACK, at)
        if at < 0:
            break
        before, after = text[at - 1], text[at + 1 : at + 2]
        if before.isascii() and before.isalnum() and after.isascii() and after.isalpha():
            return at
    return end
