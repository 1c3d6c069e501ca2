"""The files of a rules folder, read with bounds: `*.yaml` are the main rules, `teams/*.yaml` one team's each.

`check` answers on any file within a second (THREATS, row 25), which bounds the bytes of one (docs/decisions/007).
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mitmgate.rules.positions import Place, Problem, shown

LARGEST: Final = 1 << 20                    # bytes of one file
LARGEST_FOLDER: Final = 16 << 20            # characters of all files
MOST_FILES: Final = 1_000                   # of the main rules, and of teams
TEAMS: Final = "teams"


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file's name inside the folder and its text."""

    name: str
    text: str

    @property
    def team(self) -> str | None:
        """Whose rules these are; None: everybody's."""
        folder, _, name = self.name.rpartition("/")
        return name.removesuffix(".yaml") if folder else None


def rule_files(folder: Path) -> Iterator[RuleFile | Problem]:
    """Every `*.yaml` directly in `folder`, then those in its `teams`, in the order of the names.

    Hidden ones (an editor's locks) are not rules.
    """
    left = LARGEST_FOLDER
    for file in _files(folder):
        if isinstance(file, RuleFile):
            left -= len(file.text)
            if left < 0:
                yield Problem(file.name, 1, 1, "", f"up to here the files are larger than {LARGEST_FOLDER >> 20} MiB in all")
                return
        yield file


def _files(folder: Path) -> Iterator[RuleFile | Problem]:
    try:
        names = _names(folder)
    except OSError as error:
        yield Problem(str(folder), 1, 1, "", f"the rules folder cannot be read: {error.strerror}")
        return
    if not names:
        yield Problem(str(folder), 1, 1, "", "the folder holds no *.yaml file")
    yield from _each(folder, names, str(folder))
    if os.path.lexists(folder / TEAMS):
        try:
            teams = _names(folder / TEAMS)
        except OSError as error:
            yield Problem(TEAMS, 1, 1, "", f"the folder of the teams' rules cannot be read: {error.strerror}")
            return
        yield from _each(folder, [f"{TEAMS}/{name}" for name in teams], TEAMS)


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".yaml") and not name.startswith("."))


def _each(folder: Path, names: list[str], where: str) -> Iterator[RuleFile | Problem]:
    if len(names) > MOST_FILES:
        yield Problem(where, 1, 1, "", f"more than {MOST_FILES:,} files")
        return
    for name in names:
        yield _read(folder, name)


def _read(folder: Path, name: str) -> RuleFile | Problem:
    start = Place(shown(name), 1, 1)
    real = Path(os.path.realpath(folder / name))
    if not real.is_relative_to(os.path.realpath(folder)):
        return Problem.at(start, (), "a link that leads out of the rules folder")
    try:
        # NONBLOCK: a named pipe must not hang us. NOFOLLOW: what was checked above is what is opened.
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Problem.at(start, (), "not a regular file")
            content = file.read(LARGEST + 1)
    except IsADirectoryError:
        return Problem.at(start, (), "not a regular file")
    except OSError as error:
        return Problem.at(start, (), f"the file cannot be read: {error.strerror}")
    if len(content) > LARGEST:
        return Problem.at(start, (), f"the file is larger than {LARGEST >> 10} KiB: split it")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Problem.at(start, (), "the file is UTF-16: save it as UTF-8")
    try:
        return RuleFile(start.file, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        return Problem.at(Place(start.file, line, column), (), "not UTF-8: save the file as UTF-8")
