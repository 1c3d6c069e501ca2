"""The path of a request in the one spelling that the rest of the house compares, or a refusal.

Theory of operation. Servers disagree about `//`, `/./`, `%2f`, `;` and double encoding. A path that another parser
could read as a different endpoint must not pass a check that is made on our reading (THREATS, row 1). So nothing is
repaired: escapes are decoded once, one trailing slash goes, and whatever could still be read in two ways is refused.
Rule: RFC 3986, sections 2.1, 3.3 and 6.2.2, read strictly.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_TARGET: Final = 8 << 10         # characters of path and query together

_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f#]")
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Controls, DEL, and what has a meaning of its own when it is not encoded: # % / ; ? \
_HIDDEN: Final = re.compile(r"%(?:[01][0-9a-f]|7f|23|25|2f|3b|3f|5c)", re.IGNORECASE)


class AmbiguousPath(Exception):
    """The target can be read in more than one way. The message is for the client, and quotes nothing of the target."""


@lru_cache(1024)
def normalise(target: str) -> tuple[str, str]:
    """Path and query of a request target in origin form (RFC 9112, section 3.2.1).

    The path is percent-decoded, without trailing slash (but "/" stays), its case as it came. The query is as it came,
    without "?". Bytes beyond ASCII in `target`, in whatever way they were decoded, are refused: they must be escaped.
    Raises AmbiguousPath.
    """
    if len(target) > MAX_TARGET:
        raise AmbiguousPath(f"the request target is longer than {MAX_TARGET} characters")
    if not target.startswith("/"):
        raise AmbiguousPath("the request target must begin with a slash")
    if not target.isascii() or _UNSAFE.search(target):
        raise AmbiguousPath("the request target holds a space, a control character, a # or bytes that are not ASCII")
    path, _, query = target.partition("?")
    if "\\" in path or ";" in path:
        raise AmbiguousPath("the path holds a backslash or a semicolon")
    if "%" in path:
        path = _decoded(path)
    if path != "/":
        path = path.removesuffix("/")
        if any(segment in ("", ".", "..") for segment in path.split("/")[1:]):
            raise AmbiguousPath("the path holds an empty segment, /./ or /../")
    return path, query


def _decoded(path: str) -> str:
    if _BROKEN_ESCAPE.search(path):
        raise AmbiguousPath("the path holds a % that is not followed by two hexadecimal digits")
    if _HIDDEN.search(path):
        raise AmbiguousPath("the path holds an encoded slash, backslash, %, ?, #, semicolon or control character")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        raise AmbiguousPath("the path's escapes are not UTF-8") from None
    if not decoded.isascii() and not all(_stands_for_itself(character) for character in decoded):
        raise AmbiguousPath("the path holds a character that some servers read as another")
    return decoded


def _stands_for_itself(character: str) -> bool:
    """False for invisible ones, and for those that a server may fold to ASCII: fullwidth letters, dots, slashes."""
    if character.isascii():
        return True
    return character.isprintable() and not any(c.isascii() for c in unicodedata.normalize("NFKC", character))
