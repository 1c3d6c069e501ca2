"""Rule tests run: each request is rehearsed on the rules alone, and what comes out is compared with what is expected.

Nobody is asked, clock and dice are the test's own, and every test begins with rules that have seen no request.
"""

import os
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson

from mitmgate.explanation import Explanation, explain
from mitmgate.rehearsal import Rehearsed, RequestError, afresh, rehearse_now, rules_alone
from mitmgate.rules.expand import Taken
from mitmgate.rules.trials import Expected, Refused, Trial, TrialFile
from mitmgate.runtime import Snapshot


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that came out otherwise."""

    what: str                               # the key of `expect`
    where: str | None                       # file:line of it
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test that was run. `error`: why it could not be; `refusal`: how the call ended, where nobody expected that."""

    name: str
    file: str
    where: str                              # file:line
    seconds: float = 0.0
    mismatches: tuple[Mismatch, ...] = ()
    error: str | None = None
    refusal: str | None = None

    @property
    def passed(self) -> bool:
        """Whether all came out as expected."""
        return self.error is None and not self.mismatches


@dataclass(frozen=True, slots=True)
class Part:
    """Something in the rules that a test can reach."""

    kind: str                               # route, model, alias, policy
    name: str
    where: str | None


@dataclass(slots=True)
class Report:
    """What came of all tests. `parts`: what the rules hold, and whether a test reached it."""

    outcomes: list[Outcome] = field(default_factory=list)
    parts: dict[Part, bool] = field(default_factory=dict)

    @property
    def failed(self) -> list[Outcome]:
        """Those that did not pass."""
        return [each for each in self.outcomes if not each.passed]

    @property
    def unreached(self) -> list[Part]:
        """What no test reached."""
        return [part for part, reached in self.parts.items() if not reached]

    @property
    def coverage(self) -> float:
        """The share of the parts that tests reach, 0 to 1; 1 where there are none."""
        return sum(self.parts.values()) / len(self.parts) if self.parts else 1.0


def run_trials(
    folder: Path,
    files: Sequence[TrialFile],
    environ: Mapping[str, str] = os.environ,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Report:
    """Run the tests whose names are wanted. Raises RulesError and ValueError as `rules_alone` does.

    Rules are compiled once for each environment that a file writes.
    """
    report = Report()
    compiled: dict[frozenset[tuple[str, str]], Snapshot] = {}
    for file in files:
        written = frozenset(file.environment.items())
        if written not in compiled:
            compiled[written] = rules_alone(folder, ChainMap(dict(file.environment), dict(environ)))
            for part in parts_of(compiled[written]):
                report.parts.setdefault(part, False)
        snapshot = compiled[written]
        for position, trial in enumerate(file.trials):
            if wanted(trial.name):
                outcome, reached = _run(trial, f"tests[{position}]", file, snapshot)
                report.outcomes.append(_shown(outcome, snapshot.taken, file.taken))
                report.parts.update(dict.fromkeys(reached, True))
    return report


def _shown(outcome: Outcome, *taken: Taken) -> Outcome:
    """As it may be printed, or published by CI: without what came out of the environment."""
    def hide(text: str) -> str:
        for each in taken:
            text = each.hide(text)
        return text

    mismatches = tuple(replace(each, expected=hide(each.expected), found=hide(each.found)) for each in outcome.mismatches)
    error = hide(outcome.error) if outcome.error is not None else None
    refusal = hide(outcome.refusal) if outcome.refusal is not None else None
    return replace(outcome, name=hide(outcome.name), mismatches=mismatches, error=error, refusal=refusal)


def parts_of(snapshot: Snapshot) -> Iterator[Part]:
    """Routes, models, aliases and policies, in the order of the rules."""
    table = snapshot.table
    teams = tuple({id(names): names for names in table.teams.values()}.values())
    yield from (Part("route", route.chosen.route, route.chosen.where) for route in table.routes)
    for models in (table.models, *(names.models for names in teams)):
        yield from (Part("model", route.chosen.route, route.chosen.where) for route in models.values())
    for aliases in (table.aliases, *(names.aliases for names in teams)):
        yield from (Part("alias", str(alias.pattern), alias.where) for alias in aliases)
    constraints = [policy.constraint for policy in table.policies if policy.constraint.name.startswith("policy ")]
    yield from (Part("policy", each.name.removeprefix("policy "), each.where) for each in constraints)


def _reached(explanation: Explanation) -> Iterator[Part]:
    if explanation.by in ("route", "models"):
        yield Part("route" if explanation.by == "route" else "model", str(explanation.route), explanation.where)
    if alias := explanation.alias:
        yield Part("alias", alias["pattern"], alias["where"])
    for policy in explanation.policies:
        if policy["name"].startswith("policy "):
            yield Part("policy", policy["name"].removeprefix("policy "), policy["where"])


def _run(trial: Trial, path: str, file: TrialFile, snapshot: Snapshot) -> tuple[Outcome, Sequence[Part]]:
    where = file.where.get(path, file.name)
    began = time.perf_counter()
    try:
        rules = afresh(snapshot, draw=_dice(trial), at=trial.at)
        rehearsed = rehearse_now(trial.request, rules)
        story = explain(rehearsed.exchange, rules, rehearsed.refusal, rehearsed.untouched)
    except RequestError as error:
        return Outcome(trial.name, file.name, where, time.perf_counter() - began, error=f"the request is none: {error}"), ()
    mismatches = tuple(
        Mismatch(what, file.where.get(f"{path}.expect.{what}"), _said(wanted), _said(found))
        for what, wanted, found in _compared(trial.expect, rehearsed, story)
    )
    unforeseen = mismatches and trial.expect.refused is None and rehearsed.refusal is not None
    refusal = _refusal(rehearsed) if unforeseen else None
    outcome = Outcome(trial.name, file.name, where, time.perf_counter() - began, mismatches, refusal=refusal)
    return outcome, tuple(_reached(story))


def _refusal(rehearsed: Rehearsed) -> str | None:
    refusal = rehearsed.refusal
    return f"{refusal.status} {refusal.code}: {refusal.message}" if refusal is not None else None


def _dice(trial: Trial) -> Callable[[], float]:
    draws = cycle(trial.dice if isinstance(trial.dice, tuple) else (trial.dice,))
    return lambda: next(draws)


def _compared(expect: Expected, rehearsed: Rehearsed, story: Explanation) -> Iterator[tuple[str, Any, Any]]:
    """What was expected and came out otherwise: key, expected, found."""
    given = expect.model_fields_set
    for key in [key for key in _READ if key in given]:
        wanted, found = getattr(expect, key), _READ[key](rehearsed, story)
        if key in _UNORDERED:
            wanted, found = sorted(wanted), sorted(found)
        if wanted != found:
            yield key, wanted, found
    if expect.parameters is not None:
        sent = rehearsed.sent or {}
        wanted = expect.parameters
        found = {name: sent.get(name) for name in wanted}
        if not all(_alike(wanted[name], found[name]) for name in wanted):
            yield "parameters", wanted, found
    if expect.refused is not None and not _refused_so(expect.refused, rehearsed):
        yield "refused", _told(expect.refused), _refusal(rehearsed) or False


_READ: Mapping[str, Callable[[Rehearsed, Explanation], Any]] = {
    "route": lambda rehearsed, story: story.route,
    "targets": lambda rehearsed, story: rehearsed.models,
    "project": lambda rehearsed, story: rehearsed.exchange.project,
    "model": lambda rehearsed, story: rehearsed.exchange.model,
    "dropped": lambda rehearsed, story: tuple(each.target for each in story.plan if each.verdict != "kept"),
    "guardrails": lambda rehearsed, story: {g.guardrail for v in story.plan if v.verdict == "kept" for g in v.guardrails},
    "passes": lambda rehearsed, story: rehearsed.untouched is not None,
}
_UNORDERED = frozenset({"dropped", "guardrails"})


def _alike(wanted: object, found: object) -> bool:
    """As JSON: 1 is not true, and 1.0 is 1."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return wanted == found


def _refused_so(wanted: Refused | bool, rehearsed: Rehearsed) -> bool:
    refusal = rehearsed.refusal
    if isinstance(wanted, bool):
        return wanted == (refusal is not None)
    return refusal is not None and wanted.status in (None, refusal.status) and wanted.code in (None, refusal.code)


def _told(refused: Refused | bool) -> str | bool:
    if isinstance(refused, bool):
        return refused
    return " ".join(str(each) for each in (refused.status, refused.code) if each is not None)


def _said(value: object) -> str:
    """A value as a report says it, on one line."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return orjson.dumps(value).decode()
