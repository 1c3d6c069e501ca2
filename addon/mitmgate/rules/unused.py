"""What is given a name that nothing uses: guardrails, projects; and matches of projects that nobody is in.

Only what the document shows for certain. A project that says something of its own (`allow`, `budget`, `endpoints` …) is
never unused, because a call may name its project itself.
"""

from collections.abc import Iterator
from typing import Final

from mitmgate.globs import Globs
from mitmgate.rules import schema
from mitmgate.rules.references import UNKNOWN_PROJECT
from mitmgate.rules.remarks import Remark, matches, servings

# What a project without any of these is but a name: its own demands hold as soon as a call names it.
_OWN: Final = frozenset({"identify", "allow", "budget", "guardrails", "client_may", "endpoints", "tier", "tenant", "priority"})
_MOST_COMPARED: Final = 200_000             # patterns with names, some 0.5 µs each; beyond it nothing is said of projects


def unused(rules: schema.Rules) -> Iterator[Remark]:
    """See the module."""
    yield from _guardrails(rules)
    yield from _projects(rules)
    yield from _nobody(rules)


def _guardrails(rules: schema.Rules) -> Iterator[Remark]:
    used = {use.use for _, serving in servings(rules) for use in serving.guardrails}
    used |= {use.use for policy in rules.policies for use in policy.guardrails}
    for project in rules.projects.values():
        used |= {use.use for use in project.guardrails}
        used |= {use.use for endpoint in project.endpoints.values() for use in endpoint.guardrails}
    for name in rules.guardrails.keys() - used:
        yield Remark(("guardrails", name), "never used: no route, model, policy, project or endpoint names it")
    for team, own in rules.teams.items():
        mine = {use.use for serving in (*own.routes, *own.models.values()) for use in serving.guardrails}
        for name in own.guardrails.keys() - mine:
            yield Remark(("teams", team, "guardrails", name), "never used: no route or model of the team names it")


def _projects(rules: schema.Rules) -> Iterator[Remark]:
    named = [keys.project for _, keys in matches(rules)] + [budget.of.project for budget in rules.budgets]
    named += [team.scope.project for team in rules.teams.values()]
    # `*` means all of them, and no one in particular.
    patterns = Globs.parse(tuple({text for texts in named for text in texts if text.strip("*")}))
    if len(patterns.patterns) * len(rules.projects) > _MOST_COMPARED:
        return
    for name, project in rules.projects.items():
        if name == UNKNOWN_PROJECT or _OWN & project.model_fields_set or patterns.match(name) is not None:
            continue
        message = "never used: it has no `identify`, nothing that holds for it, and no match, budget or team names it"
        yield Remark(("projects", name), message)


def _nobody(rules: schema.Rules) -> Iterator[Remark]:
    names = (*rules.projects, UNKNOWN_PROJECT)
    places = [(path, keys.project) for path, keys in matches(rules)]
    places += [(("budgets", index, "of"), budget.of.project) for index, budget in enumerate(rules.budgets)]
    left = _MOST_COMPARED
    for path, given in places:
        patterns = Globs.parse(given)
        if not given or patterns.literals:
            continue                        # a name is one of `projects`, else the rules would not load
        left -= len(given) * len(names)
        if left < 0:
            return
        if all(patterns.match(name) is None for name in names):
            yield Remark((*path, "project"), "names nobody: no project of `projects` fits")
