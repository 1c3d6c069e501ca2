"""Files in a folder of rules that look like rules and are read by nobody: `*.yml`, and folders that are not `teams`."""

import difflib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from mitmgate.rules.files import TEAMS
from mitmgate.rules.positions import Place, Problem, shown

_READ: Final = ".yaml"
_ENDINGS: Final = (_READ, ".yml")
_OTHERS: Final = frozenset({"tests", "prompts"})    # folders of files that are not rules
_MOST_ENTRIES: Final = 2_000                # of one folder, that are looked at
_MOST_FOLDERS: Final = 100
_MOST_TOLD: Final = 20                      # a chart or a playbook beside the rules is not a hundred warnings


def unread(folder: Path) -> Iterator[Problem]:
    """One warning for each such file, without looking into it."""
    yield from islice(_unread(folder), _MOST_TOLD)


def _unread(folder: Path) -> Iterator[Problem]:
    yield from _misnamed(folder, "")
    yield from _misnamed(folder / TEAMS, f"{TEAMS}/")
    yield from _misplaced(folder, "", frozenset({TEAMS, *_OTHERS}))
    yield from _misplaced(folder / TEAMS, f"{TEAMS}/", frozenset())


def _misnamed(folder: Path, prefix: str) -> Iterator[Problem]:
    for entry in _entries(folder):
        if entry.name.endswith(".yml") and entry.is_file():
            named = shown(Path(entry.name).stem + _READ)
            yield _problem(prefix + entry.name, f"not read: rules are in `*.yaml`; call it `{named}`")


def _misplaced(folder: Path, prefix: str, known: frozenset[str]) -> Iterator[Problem]:
    folders = (each for each in _entries(folder) if each.name not in known and each.is_dir(follow_symlinks=False))
    for inner in islice(folders, _MOST_FOLDERS):
        meant = "; move it to `teams/`" if difflib.SequenceMatcher(None, inner.name.lower(), TEAMS).ratio() > 0.75 else ""
        for entry in _entries(Path(inner.path)):
            if entry.name.endswith(_ENDINGS) and entry.is_file():
                where = "directly in the folder, and teams' in `teams/`"
                yield _problem(f"{prefix}{inner.name}/{entry.name}", f"not read: rules are {where}{meant or '; move it there'}")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """In the order of the names, without hidden ones: those are an editor's, or of a mount."""
    try:
        with os.scandir(folder) as found:
            entries = [each for each in islice(found, _MOST_ENTRIES) if not each.name.startswith(".")]
    except OSError:
        return []                           # loading has told of it, if it matters
    return sorted(entries, key=lambda each: each.name)


def _problem(name: str, message: str) -> Problem:
    return Problem.at(Place(shown(name), 1, 1), (), message)
