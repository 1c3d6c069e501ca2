"""Providers' secrets: from the environment, a file, or the rules themselves; several at once for a rotation.

A file is looked at again when its modification time changes, at most once a second, and at once after a 401; so a rotated
secret is picked up without a reload and the request path opens no file.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mitmgate.exchange import Credential
from mitmgate.providers.vendors import VENDORS
from mitmgate.rules import schema

_LOOK_EVERY: Final = 1.0                    # seconds between looks at a file's modification time
_LARGEST: Final = 64 << 10                  # bytes of a secret's file
_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*")  # of a variable; a key that stands in its place by mistake has small letters


def key_sources(name: str, rule: schema.Provider) -> str:
    """Where a provider's key is looked for, as messages may say it: never what may itself be a key."""
    if rule.credential is None:
        vendor = VENDORS.get(name)
        return (vendor and vendor.variable) or "no variable"
    several = rule.credential if isinstance(rule.credential, tuple) else (rule.credential,)
    return " or ".join(dict.fromkeys(source_of(each, f"providers.{name}") for each in several))


def source_of(source: schema.Credential, place: str) -> str:
    """One source of a secret at a place of the rules, as messages may say it."""
    if source.env is not None and _NAME.fullmatch(source.env):
        return source.env
    if source.file is not None and source.file.startswith("/"):
        return source.file
    kind = "variable" if source.env is not None else "file" if source.file is not None else "value"
    return f"the {kind} that {place}.credential names"


class FixedCredential:
    """A value that cannot change while we run: an environment variable or `value:`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "FixedCredential(…)"

    def secret(self) -> str | None:
        """The value, None if it is empty."""
        return self._value or None

    def rejected(self, secret: str) -> None:
        """Nothing to do: there is no other value."""


class FileCredential:
    """A file that holds the secret and nothing else; white space around it does not count."""

    __slots__ = ("_at", "_clock", "_looked", "_path", "_value")

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = -_LOOK_EVERY
        self._at: tuple[int, int] | None = None
        self._value: str | None = None
        self._look()

    def __repr__(self) -> str:
        return f"FileCredential({str(self._path)!r})"

    def secret(self) -> str | None:
        """The file's content as of at most a second ago; its last good content when it cannot be read."""
        if self._clock() - self._looked >= _LOOK_EVERY:
            self._look()
        return self._value

    def rejected(self, secret: str) -> None:
        """Look again at once: it may have been replaced."""
        self._at = None
        self._look()

    def _look(self) -> None:
        self._looked = self._clock()
        try:
            stat = os.stat(self._path)
            if (stat.st_mtime_ns, stat.st_ino) != self._at:
                with self._path.open(encoding="utf-8") as file:
                    self._value = file.read(_LARGEST).strip() or None
                self._at = (stat.st_mtime_ns, stat.st_ino)
        except (OSError, UnicodeDecodeError):
            return                          # keep the last good value: a rotation replaces the file in two steps


class AnyCredential:
    """Several credentials, any of which works: the one that was last accepted stays until it is rejected."""

    __slots__ = ("_choice", "_choices")

    def __init__(self, choices: Sequence[Credential]) -> None:
        self._choices = tuple(choices)
        self._choice = 0

    def __repr__(self) -> str:
        return f"AnyCredential({len(self._choices)})"

    def secret(self) -> str | None:
        """The present choice's value, or the next one's that has any."""
        for offset in range(len(self._choices)):
            position = (self._choice + offset) % len(self._choices)
            if secret := self._choices[position].secret():
                self._choice = position
                return secret
        return None

    def rejected(self, secret: str) -> None:
        """Turn to the next one, unless somebody has already turned away from `secret`."""
        present = self._choices[self._choice]
        present.rejected(secret)
        if present.secret() in (secret, None):
            self._choice = (self._choice + 1) % len(self._choices)
