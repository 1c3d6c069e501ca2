"""`${NAME}` and `${NAME:-default}` in the rules' texts.

`$${` stands for a `${` that is meant as it is; every other `$` is itself, `$1` of a target's model above all.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")
LONGEST: Final = 64 << 10                   # characters of one expanded text
_TELLING: Final = 6                         # characters of a value that may be a secret; `eu` is none
MOST: Final = 5 << 20                       # characters of all expanded texts of a folder


class Expanded(str):
    """A text that took something from the environment. `written` stands in the file and is all that may be shown."""

    __slots__ = ("plain", "written")
    written: str
    plain: bool                             # not in quotes: may stand for a number or a boolean

    @classmethod
    def of(cls, text: str, written: str, plain: bool) -> "Expanded":
        """`text`, which came out of `written`."""
        made = cls(text)
        made.written = written
        made.plain = plain
        return made


class ExpandError(Exception):
    """A reference that cannot be followed; the message names the variable and never a value."""


class Taken(Mapping[str, str]):
    """An environment that remembers what the rules took from it, so that it need not be shown: it may be secret."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._read: dict[str, str] = {}     # value → name
        self._hiding: tuple[int, re.Pattern[str], dict[str, str]] | None = None     # of how many values; by folded value

    def __getitem__(self, name: str) -> str:
        value = self._environ[name]
        if len(value) >= _TELLING:
            self._read[value] = name
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    def hide(self, shown: Any) -> Any:
        """The same text, list or map, `${NAME}` in place of what came from the environment."""
        if not self._read:
            return shown
        if isinstance(shown, str):
            if self._hiding is None or self._hiding[0] != len(self._read):
                # Longest first; without regard to case, since hosts are shown in lower case whatever was written.
                pattern = re.compile("|".join(sorted(map(re.escape, self._read), key=len, reverse=True)), re.IGNORECASE)
                named = {value.casefold(): f"${{{name}}}" for value, name in self._read.items()}
                self._hiding = len(self._read), pattern, named
            _, secrets, names = self._hiding
            return secrets.sub(lambda found: names.get(found[0].casefold(), "${…}"), shown)
        if isinstance(shown, Mapping):
            return {self.hide(key): self.hide(value) for key, value in shown.items()}
        if isinstance(shown, list | tuple):
            return [self.hide(each) for each in shown]
        return shown


class Expander:
    """Expands texts from one environment, within the bounds."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._left = MOST

    def expand(self, text: str, plain: bool) -> str:
        """`text` with its references replaced. Raises `ExpandError`."""
        if "${" not in text:
            return text
        room = min(LONGEST, self._left)
        pieces: list[str] = []
        position = 0
        for reference in _REFERENCE.finditer(text):
            piece = self._follow(reference)
            room -= reference.start() - position + len(piece)
            if room < 0:
                raise ExpandError(f"becomes longer than {LONGEST:,} characters, or all such texts longer than {MOST:,}")
            pieces += (text[position : reference.start()], piece)
            position = reference.end()
        pieces.append(text[position:])
        whole = "".join(pieces)
        self._left -= len(whole)
        return Expanded.of(whole, text, plain)

    def _follow(self, reference: re.Match[str]) -> str:
        if reference[0] == "$${":
            return "${"
        name, default = reference[1], reference[2]
        if name is None:
            raise ExpandError("expected `${NAME}` or `${NAME:-default}`; write `$${` for a `${` that is meant as it is")
        value = self._environ.get(name)
        if default is not None:
            return value or default         # as in a shell, an empty variable counts as unset here
        if value is None:
            raise ExpandError(f"the environment variable `{name}` is not set; `${{{name}:-…}}` gives a default")
        return value
