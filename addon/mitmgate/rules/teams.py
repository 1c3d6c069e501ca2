"""Teams' own rules (DESIGN §4): `teams/NAME.yaml` becomes `teams.NAME` of the document, held to what a team may say.

No order between teams can matter, whatever their files are called: two scopes never overlap.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from mitmgate.globs import Glob
from mitmgate.rules.nodes import Entry, Map
from mitmgate.rules.patterns import MATCHES, TARGETS, Patterns
from mitmgate.rules.positions import Path, Place, Problem, shown
from mitmgate.rules.schema import Rules, Team
from mitmgate.rules.values import Values
from mitmgate.rules.wording import Suggestions

_TEAMS: Final = "teams"
_OWN: Final = tuple(name for name in Team.model_fields if name != "version")
_NOT_OWN: Final = frozenset(field.alias or name for name, field in Rules.model_fields.items()) - Team.model_fields.keys()
_PROVIDERS: Final = Patterns((f"{place}.provider", None) for place in TARGETS if place.startswith(f"{_TEAMS}."))
_PROJECTS: Final = Patterns((f"{place}.project", None) for place in MATCHES if place.startswith(f"{_TEAMS}."))


def join(whole: Map, teams: Mapping[str, Map]) -> tuple[Map, list[Problem]]:
    """The main rules with each team's file under `teams`, and what a file holds that is not for it."""
    problems: list[Problem] = []
    entries = dict(whole.entries)
    if (written := entries.pop(_TEAMS, None)) is not None:
        message = "teams have files of their own: write `teams/NAME.yaml`"
        problems.append(Problem.at(written.place, (_TEAMS,), message))
    if teams:
        own = {name: Entry(Place(tree.place.file, 1, 1), _only_own(name, tree, problems)) for name, tree in teams.items()}
        place = next(iter(own.values())).place
        size, height = sum(tree.size for tree in teams.values()), max(tree.height for tree in teams.values())
        entries[_TEAMS] = Entry(place, Map(place, own, 1 + size, 1 + height))
    return Map(whole.place, entries, whole.size, whole.height), problems


def _only_own(team: str, tree: Map, problems: list[Problem]) -> Map:
    entries = dict(tree.entries)
    for key in _NOT_OWN.intersection(entries):
        message = f"only the main rules may say this; a team has {', '.join(_OWN[:-1])} and {_OWN[-1]}"
        problems.append(Problem.at(entries.pop(key).place, (_TEAMS, team, key), message))
    return Map(tree.place, entries, tree.size, tree.height)


def check_teams(values: Values, suggestions: Suggestions) -> Iterator[Problem]:
    """What is wrong with teams beside each other and beside the main rules."""
    document = values.data
    scopes: dict[str, list[str]] = {}
    taken: dict[str, Path] = {}
    for name, team in _maps(document.get(_TEAMS)).items():
        scopes[name] = []
        for path, project in _scope(name, team):
            scopes[name].append(project)
            yield from _project(project, path, taken, values, suggestions)
        yield from _shadowed(name, team, values)
        yield from _twice(name, team, values)
    projects = _maps(document.get("projects"))
    for path, provider, _ in _PROVIDERS.walk(document):
        if isinstance(provider, str):
            yield from _granted(provider, path, scopes[str(path[1])], projects, values)
    for path, written, _ in _PROJECTS.walk(document):
        for here, project in _words(written, path):
            scope = scopes[str(path[1])]
            if Glob.parse(project).literal and project not in scope:
                message = f"`{shown(values.written(here))}` is outside the team's scope: this would never match"
                yield Problem.at(values.place(here), here, message)


def _maps(value: object) -> Mapping[str, Mapping[str, Any]]:
    return {key: each for key, each in value.items() if isinstance(each, dict)} if isinstance(value, dict) else {}


def _words(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """The texts of a value that is one or a list of such."""
    if isinstance(value, list):
        yield from (((*path, index), each) for index, each in enumerate(value) if isinstance(each, str))
    elif isinstance(value, str):
        yield path, value


def _scope(name: str, team: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    scope = team.get("scope")
    if isinstance(scope, dict):
        yield from _words(scope.get("project"), (_TEAMS, name, "scope", "project"))


def _project(
    project: str, path: Path, taken: dict[str, Path], values: Values, suggestions: Suggestions
) -> Iterator[Problem]:
    known = _maps(values.data.get("projects"))
    written = shown(values.written(path))
    if project in taken:
        message = f"the project `{written}` is in a scope already, at {values.place(taken[project])}: scopes never overlap"
        yield Problem.at(values.place(path), path, message)
    elif project not in known:
        near = suggestions.meant(project, known) or "; it has to stand under `projects` of the main rules"
        yield Problem.at(values.place(path), path, f"unknown project `{written}`{near}")
    taken.setdefault(project, path)


def _shadowed(name: str, team: Mapping[str, Any], values: Values) -> Iterator[Problem]:
    everybodys = _maps(values.data.get("guardrails"))
    for guardrail in _maps(team.get("guardrails")):
        if guardrail in everybodys:
            path: Path = (_TEAMS, name, "guardrails", guardrail)
            there = values.owner(("guardrails", guardrail))
            message = f"the main rules have a guardrail of this name, at {there}: give the team's another"
            yield Problem.at(values.owner(path), path, message)


def _twice(name: str, team: Mapping[str, Any], values: Values) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    routes = team.get("routes")
    for index, route in enumerate(routes if isinstance(routes, list) else ()):
        called = route.get("name") if isinstance(route, dict) else None
        if not isinstance(called, str):
            continue
        path: Path = (_TEAMS, name, "routes", index, "name")
        if called in first:
            message = f"the name `{shown(values.written(path))}` is given twice, first at {values.place(first[called])}"
            yield Problem.at(values.place(path), path, message)
        first.setdefault(called, path)


def _granted(
    provider: str, path: Path, scope: Collection[str], projects: Mapping[str, Mapping[str, Any]], values: Values
) -> Iterator[Problem]:
    """A target that the `allow:` of every project in scope rules out. What no project allows, no request can reach."""
    region = _maps(values.data.get("providers")).get(provider, {}).get("region")
    refused: list[Path] = []
    for project in scope:
        here = _refusing(project, provider, region if isinstance(region, str) else None, projects)
        if here is None:
            return
        refused.append(here)
    if refused:
        written = f"the provider `{shown(values.written(path))}`"
        if any(here[-1] == "regions" for here in refused):
            there: Path = ("providers", provider, "region")
            has = "has no `region`" if region is None else f"is in the region `{shown(values.written(there))}`"
            written = f"{written}, which {has}"
        message = f"no project of the team's scope may use {written}: see {values.owner(refused[0])}"
        yield Problem.at(values.place(path), path, message)


def _refusing(project: str, provider: str, region: str | None, projects: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """The key of the project's `allow:` that rules a provider out; None if none does."""
    allow = projects.get(project, {}).get("allow")
    if not isinstance(allow, dict):
        return None
    for key, name in (("providers", provider), ("regions", region)):
        here: Path = ("projects", project, "allow", key)
        globs = [glob for _, glob in _words(allow.get(key), here)]
        if globs and (name is None or all(Glob.parse(glob).match(name) is None for glob in globs)):
            return here
    return None
