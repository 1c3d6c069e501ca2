"""A folder of YAML files to `Rules`, or to every problem in them at once (DESIGN §4).

The way: files → nodes (bounded, with places) → one merged tree, teams in it → plain values, the environment expanded →
schema and cross-checks. A file that cannot be read or parsed is reported together with what its neighbours show alone;
what only the whole document could show waits until it can be read.
"""

import gc
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from mitmgate.freeing import let_go, small_collections
from mitmgate.rules.checks import Known, cross_check
from mitmgate.rules.files import rule_files
from mitmgate.rules.later import unbuilt
from mitmgate.rules.merge import merge
from mitmgate.rules.nodes import Map, compose
from mitmgate.rules.positions import MOST_PROBLEMS, Place, Problem, RulesError, in_order
from mitmgate.rules.schema import Rules
from mitmgate.rules.teams import check_teams, join
from mitmgate.rules.values import Values, read_values
from mitmgate.rules.wording import Suggestions, no_value, reworded

MOST_VALUES: Final = 200_000                # of all files; wrong ones take 35 µs each


class VendorRow(Protocol):
    """A row of the vendor table (`providers.vendors`, a floor above), as far as loading asks."""

    @property
    def base_url(self) -> str | None:
        """None: it differs per customer, so the rules must say it."""
        ...

    @property
    def variable(self) -> str | None:
        """Of the environment, that holds its key; None: it asks for none."""
        ...


def load(
    folder: Path,
    environ: Mapping[str, str] = os.environ,
    known_vendors: Mapping[str, VendorRow] | Collection[str] = (),
    known_dialects: Collection[str] = (),
    *,
    gently: bool = False,
) -> Rules:
    """The rules of `folder`. Raises `RulesError` with all problems.

    `known_vendors`: provider names whose credential, and as a rule whose address, the vendor table has; names alone
    are taken to have both. `known_dialects`: what `dialect:` may say; empty: anything. `gently`: a little slower, and no
    other thread waits long for its turn.
    """
    known = _known(known_vendors, known_dialects)
    waste: list[object] = []
    with small_collections() if gently else _uncollected():
        try:
            return _loaded(folder, environ, known, waste)
        finally:
            if gently:
                let_go(waste)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of cycles: loading makes none, and looking for them again and again doubles its time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _loaded(folder: Path, environ: Mapping[str, str], known: Known, waste: list[object]) -> Rules:
    """`waste` takes what is of no use afterwards."""
    problems: list[Problem] = []
    trees: list[Map] = []
    teams: dict[str, Map] = {}
    first = ""
    readable = True
    left = MOST_VALUES
    for file in rule_files(folder):
        if isinstance(file, Problem):
            problems.append(file)
            readable = False
            continue
        first = first or file.name
        tree, wrong = compose(file.text, file.name)
        problems += wrong
        if tree is None and file.team is not None and not wrong:
            tree = Map(Place(file.name, 1, 1), {}, 1, 1)        # it says nothing, and so lacks what a team must say
        if tree is None:
            readable = readable and not wrong
        elif (left := left - tree.size) < 0:
            problems.append(Problem.at(tree.place, (), f"up to here the files hold more than {MOST_VALUES:,} values"))
            readable = False
            break
        elif file.team is None:
            trees.append(tree)
        else:
            teams[file.team] = tree
    if not trees:
        if readable:
            problems.append(Problem.at(Place(first, 1, 1), ("version",), "missing: write `version: 1`"))
        raise RulesError(_told(problems))
    whole, twice = merge(trees)
    whole, misplaced = join(whole, teams)
    waste += (whole, trees, teams)
    problems += twice + misplaced
    values = read_values(whole, environ)
    waste.append(values)
    problems += values.problems
    rules, wrong = _validated(values, known, whole_document=readable)
    problems = _first_of_each(problems + wrong)
    if rules is None or problems:
        raise RulesError(_told(problems))
    rules.warn(unbuilt(values))
    return rules


def _known(vendors: Mapping[str, VendorRow] | Collection[str], dialects: Collection[str]) -> Known:
    if isinstance(vendors, Mapping):
        addressed = [name for name, row in vendors.items() if row.base_url is not None]
        return Known(vendors, addressed, [name for name, row in vendors.items() if row.variable is not None], dialects)
    return Known(vendors, vendors, vendors, dialects)


def _validated(values: Values, known: Known, *, whole_document: bool) -> tuple[Rules | None, list[Problem]]:
    suggestions = Suggestions()
    problems: list[Problem] = []
    rules: Rules | None = None
    try:
        rules = Rules.placed(values.data, values.where())
    except ValidationError as error:
        problems = reworded(error, values, suggestions)
    told = {(problem.file, problem.line, problem.column) for problem in problems}
    problems += _few(no_value(path, values) for path in values.empty if values.owner(path) not in told)
    if not whole_document:
        version_may_stand_elsewhere = "version" not in values.data
        return None, [p for p in problems if not (p.path == "version" and version_may_stand_elsewhere)]
    crossed = chain(cross_check(values, known, suggestions), check_teams(values, suggestions))
    return rules, [*problems, *_few(crossed)]


def _first_of_each(problems: list[Problem]) -> list[Problem]:
    """One problem for each path: an unset variable is not also a wrong URL. Problems of whole files all stay."""
    first: dict[tuple[str, str] | Problem, Problem] = {}
    for problem in problems:
        first.setdefault((problem.file, problem.path) if problem.path else problem, problem)
    return list(first.values())


def _few(problems: Iterable[Problem]) -> Iterator[Problem]:
    """One more than are told, so that it shows that there are more."""
    return islice(problems, MOST_PROBLEMS + 1)


def _told(problems: list[Problem]) -> list[Problem]:
    """All, or the first: nobody reads more, and a hostile file would make a hundred thousand."""
    if len(problems) <= MOST_PROBLEMS:
        return problems
    *told, untold = in_order(problems)[: MOST_PROBLEMS + 1]
    message = f"there are more problems than {MOST_PROBLEMS:,}"
    return [*told, Problem(untold.file, untold.line, untold.column, "", message)]
