"""Places in rule files, and problems found at them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

type Path = tuple[str | int, ...]
"""Where a value stands in the merged document: `("routes", 0, "targets")`."""

_SHOWN: Final = 80                          # characters of a name or value that a message repeats
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:*")


class Place(NamedTuple):
    """A spot in a file of the rules folder; `line` and `column` count from 1, `file` is the name inside the folder."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path` is dotted and empty where a whole file is meant. Never holds a secret."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}: "
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"

    @classmethod
    def at(cls, place: Place, path: Path, message: str) -> "Problem":
        """A problem at a place of a file."""
        return cls(place.file, place.line, place.column, dotted(path), message)


class RulesError(Exception):
    """The rules cannot be used. `problems` holds all that is wrong with them, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column, p.path)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: Path) -> str:
    """`routes[0].targets`; a name with unusual characters is put in quotes: `models["a b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and _PLAIN.issuperset(part):
            text += f".{shown(part)}" if text else shown(part)
        else:
            text += f'["{shown(part)}"]'
    return text


def shown(text: str) -> str:
    """`text` as a message may repeat it: bounded, and without characters that a terminal would obey."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(character if character.isprintable() else "�" for character in cut)
