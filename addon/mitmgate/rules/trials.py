"""Rule tests: `tests/*.yaml` in a rules folder, read with the same care as the rules and refused in the same words.

The format is described in docs/testing-rules.md. What a test says of its request is checked when it is run, since only
the gateway knows what a request is (`mitmgate.trials`).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import Discriminator, Field, PlainValidator, Tag, ValidationError, model_validator

from mitmgate.rules.expand import Expander, ExpandError, Taken
from mitmgate.rules.files import TEAMS, RuleFile, rule_files
from mitmgate.rules.nodes import NO_MAP, Map, Scalar, compose
from mitmgate.rules.positions import Path as Steps
from mitmgate.rules.positions import Problem, RulesError, shown
from mitmgate.rules.schema import Section
from mitmgate.rules.schema.section import ONE, SEVERAL, one_or_several, some_of, word_or_map
from mitmgate.rules.units import Flag, Json, Listed, NonEmpty, Text, Variable, Whole, expected, json_value
from mitmgate.rules.values import Values, read_values, unexpanded
from mitmgate.rules.wording import Suggestions, no_value, reworded

FOLDER: Final = "tests"
_NO_TESTS: Final = "expected a map with `tests:` at the top of the file"


def _draw(value: object) -> float:
    """What dice give: from 0 to just below 1."""
    number = unexpanded(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1:
        raise expected("a number from 0 to 0.999…, as dice give it")
    return float(number)


def _moment(value: object) -> float:
    """A moment as Unix seconds."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise expected("a moment with its time zone such as 2026-01-01T00:00:00Z")
    return moment.timestamp()


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise expected("a map: a request's body, or its url, headers and body")
    return {name: json_value(each) for name, each in value.items()}


def _variable(value: object) -> str:
    """A variable's value: text, however it is written."""
    if isinstance(value, dict | list):
        raise expected("text")
    return str(value)


def _flag(value: object) -> bool:
    given = unexpanded(value)
    if not isinstance(given, bool):
        raise expected("true, false or a map with status, code")
    return given


Draw = Annotated[float, PlainValidator(_draw)]
Request = Annotated[dict[str, Any], PlainValidator(_object)]


class Refused(Section):
    """What a caller is told instead of an answer; what is not given may be anything."""

    status: Annotated[int, Whole(400, 599)] | None = None
    code: Text | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        some_of(self, "status", "code")
        return self


class Expected(Section):
    """What must come out. Only what is given is compared."""

    route: Text | None = None
    targets: Listed[Text] | None = None             # in order, each `provider/model`
    parameters: dict[str, Json] | None = None       # of the body that the first target gets; null: it must not stand there
    project: Text | None = None
    model: Text | None = None                       # after `aliases:`
    dropped: Listed[Text] | None = None             # in any order
    guardrails: Listed[Text] | None = None          # in force at a target of the plan, in any order
    refused: (
        Annotated[
            Annotated[bool, PlainValidator(_flag), Tag(ONE)] | Annotated[Refused, Tag(SEVERAL)], Discriminator(word_or_map)
        ]
        | None
    ) = None
    passes: Flag | None = None                      # it goes where it meant to go, and no rule looks at it

    @model_validator(mode="after")
    def _something(self) -> Self:
        some_of(self, *type(self).model_fields)
        return self


class Trial(Section):
    """One test: a request, and what must come of it."""

    name: Text
    request: Request
    dice: Annotated[
        Annotated[Draw, Tag(ONE)] | Annotated[NonEmpty[Draw], Tag(SEVERAL)], Discriminator(one_or_several)
    ] = 0.0
    at: Annotated[float, PlainValidator(_moment)] | None = None
    expect: Expected


class Trials(Section):
    """One file of tests. `environment` is written over the real one, for `${NAME}` of the rules and of this file."""

    environment: dict[Variable, Annotated[str, PlainValidator(_variable)]] = Field(default_factory=dict)
    tests: NonEmpty[Trial]


@dataclass(frozen=True, slots=True)
class TrialFile:
    """The tests of one file, and where they stand: `tests[0].expect.route` → `tests/a.yaml:7`."""

    name: str                               # tests/a.yaml
    environment: Mapping[str, str]
    trials: tuple[Trial, ...]
    where: Mapping[str, str] = field(repr=False)
    taken: Taken = field(repr=False)        # what it took from the environment: it is not shown


def load_trials(folder: Path, environ: Mapping[str, str] = os.environ) -> tuple[TrialFile, ...]:
    """The tests of a rules folder, in the order of their files; none where it has no `tests/*.yaml`.

    Raises RulesError with all that is wrong with them.
    """
    problems: list[Problem] = []
    found: list[TrialFile] = []
    suggestions = Suggestions()
    for file in _files(folder / FOLDER):
        if isinstance(file, Problem):
            problems.append(file)
            continue
        name = f"{FOLDER}/{file.name}"
        tree, wrong = compose(file.text, name)
        problems += (replace(each, message=_NO_TESTS) if each.message == NO_MAP else each for each in wrong)
        if tree is None and not wrong:
            problems.append(Problem(name, 1, 1, "tests", "missing"))
        if tree is not None:
            trials, wrong = _read(tree, name, environ, suggestions)
            problems += wrong
            found += [trials] if trials is not None else []
    if problems:
        raise RulesError(problems)
    return tuple(found)


def _files(tests: Path) -> Iterator[RuleFile | Problem]:
    """The `*.yaml` directly in the folder; it need not be there."""
    for file in rule_files(tests) if any(tests.glob("[!.]*.yaml")) else ():
        if isinstance(file, RuleFile):
            if file.team is None:
                yield file
        elif file.file == str(tests):
            yield replace(file, file=FOLDER)
        elif not file.file.startswith(TEAMS):
            yield replace(file, file=f"{FOLDER}/{file.file}")


class _Over(Mapping[str, str]):
    """An environment in which some variables are written over; the others are taken from it."""

    def __init__(self, written: Mapping[str, str], rest: Mapping[str, str]) -> None:
        self._written = written
        self._rest = rest

    def __getitem__(self, name: str) -> str:
        return self._written[name] if name in self._written else self._rest[name]

    def __iter__(self) -> Iterator[str]:
        return iter({*self._written, *self._rest})

    def __len__(self) -> int:
        return len({*self._written, *self._rest})


def _read(
    tree: Map, name: str, environ: Mapping[str, str], suggestions: Suggestions
) -> tuple[TrialFile | None, list[Problem]]:
    taken = Taken(environ)
    variables = _written_variables(tree, Expander(taken))
    values = read_values(tree, _Over(variables, taken))
    unknown = list(_unknown_keys(values, suggestions))
    problems = [*values.problems, *unknown, *_twice(values)]
    misspelt = {problem.path.rpartition(".")[0] for problem in unknown}     # what such a map lacks is told by its unknown key
    trials: Trials | None = None
    try:
        trials = Trials.model_validate(values.data)
    except ValidationError as error:
        # At the top of such a file only `tests` can be missing.
        problems += (
            replace(problem, message="missing") if problem.path == FOLDER and problem.message.startswith("missing") else problem
            for problem in reworded(error, values, suggestions)
            if problem.path not in misspelt
        )
    told = {problem.path for problem in problems}
    empty = (no_value(path, values) for path in values.empty if not _is_json(path))
    problems += (problem for problem in empty if problem.path not in told)
    if trials is None:
        return None, problems
    return TrialFile(name, variables, trials.tests, values.where(), taken), problems


def _written_variables(tree: Map, expander: Expander) -> dict[str, str]:
    """`environment:`, since the rest of the file may refer to it."""
    entry = tree.entries.get("environment")
    given = entry.value.entries if entry is not None and isinstance(entry.value, Map) else {}
    variables: dict[str, str] = {}
    for name, each in given.items():
        if isinstance(each.value, Scalar):
            with contextlib.suppress(ExpandError):      # told when the whole file is read
                variables[name] = str(expander.expand(each.value.text, each.value.plain))
    return variables


# Unknown keys are looked for here and taken out: the schema's own messages speak of the keys of rules.

_SECTIONS: Final[tuple[tuple[Steps, type[Section]], ...]] = (
    ((), Trials),
    ((FOLDER, 0), Trial),
    ((FOLDER, 0, "expect"), Expected),
    ((FOLDER, 0, "expect", "refused"), Refused),
)


def _unknown_keys(values: Values, suggestions: Suggestions) -> Iterator[Problem]:
    for path in list(values.keys):
        section = next((each for owner, each in _SECTIONS if _alike(path[:-1], owner)), None)
        if section is None or path[-1] in section.model_fields:
            continue
        key = str(path[-1])
        hint = _misplaced(path, values) if section is Expected and key in Refused.model_fields else ""
        hint = hint or suggestions.meant(key, section.model_fields) or f"; expected one of {', '.join(section.model_fields)}"
        yield Problem.at(values.owner(path), path, f"unknown key{hint}")
        owner: Any = values.data
        for part in path[:-1]:
            owner = owner[part]
        owner.pop(key, None)
        for inner in [each for each in values.empty if each[: len(path)] == path]:
            del values.empty[inner]


def _misplaced(path: Steps, values: Values) -> str:
    return f"; it stands under `refused`: write `refused: {{{path[-1]}: {shown(values.written(path)) or '…'}}}`"


def _alike(path: Steps, owner: Steps) -> bool:
    """Whether a path is an owner's, whichever test it is of."""
    return len(path) == len(owner) and all(
        isinstance(part, int) if isinstance(other, int) else part == other for part, other in zip(path, owner, strict=True)
    )


def _is_json(path: Steps) -> bool:
    """Whether null has a meaning there: in a request, and in parameters."""
    return len(path) > 3 and (path[2] == "request" or path[2:4] == ("expect", "parameters"))


def _twice(values: Values) -> Iterator[Problem]:
    """Two tests of one name: which of them failed could not be told."""
    tests = values.data.get(FOLDER)
    first: dict[str, Steps] = {}
    for number, test in enumerate(tests if isinstance(tests, list) else ()):
        name = test.get("name") if isinstance(test, dict) else None
        path: Steps = (FOLDER, number, "name")
        if not isinstance(name, str):
            continue
        if name in first:
            message = f"`{shown(name)}` is given twice, first at {values.place(first[name])}"
            yield Problem.at(values.place(path), path, message)
        first.setdefault(name, path)
