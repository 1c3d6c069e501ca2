"""Places in rule files, and problems found at them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

type Path = tuple[str | int, ...]
"""Where a value stands in the merged document: `("routes", 0, "targets")`."""

MOST_PROBLEMS: Final = 1_000                # that are told of one folder
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
        self.problems: tuple[Problem, ...] = tuple(in_order(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the files."""
    return sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column, problem.path))


def dotted(path: Path) -> str:
    """`routes[0].targets`; a name with unusual characters is put in quotes: `models["a b"]`."""
    return "".join(map(step, path)).removeprefix(".")


def step(part: str | int) -> str:
    """One part of a dotted path, with the dot before it."""
    if isinstance(part, int):
        return f"[{part}]"
    return f".{shown(part)}" if part and _PLAIN.issuperset(part) else f'["{shown(part)}"]'


def shown(text: str) -> str:
    """`text` as a message may repeat it: bounded, and without characters that a terminal would obey."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return cut if cut.isprintable() else "".join(each if each.isprintable() else "�" for each in cut)
