"""What `check` and the start of `run` warn of: rules that are valid and likely to be a mistake."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from mitmgate.exchange import Origin, Provider
from mitmgate.providers.compiled import compile_providers
from mitmgate.providers.lacking import uncatalogued, unreached, without_key
from mitmgate.routing.compiled import compile_routes
from mitmgate.routing.shadowed import shadowed
from mitmgate.rules.absent import absent
from mitmgate.rules.ineffective import ineffective
from mitmgate.rules.places import Places
from mitmgate.rules.positions import Problem
from mitmgate.rules.remarks import Remark, servings
from mitmgate.rules.schema import Rules
from mitmgate.rules.unread import unread
from mitmgate.rules.unused import unused
from mitmgate.runtime import default_intercept

_NOWHERE: Final = Origin("http", "127.0.0.1", 0)    # of the simulator, which nobody asks here


def unserved(rules: Rules, folder: Path) -> tuple[Problem, ...]:
    """Routes and models whose every target is switched off in the rules themselves: with these no gateway starts."""
    places = Places(rules.where, folder)
    found = []
    for path, serving in servings(rules):
        named = [target.provider for target in (*serving.targets, *serving.fallback)]
        if named and all(rules.providers[name].disabled for name in named):
            found.append(places.problem(path, "has no active target: every provider that it names is `disabled`"))
    return tuple(sorted(found, key=_order))


def warnings(rules: Rules, folder: Path, environ: Mapping[str, str], *, keys: bool = True) -> tuple[Problem, ...]:
    """All of them, in the order of the files. `keys`: also of providers that have none in `environ`.

    `rules` are such that `unserved` finds nothing in.
    """
    places = Places(rules.where, folder)
    providers = compile_providers(rules, folder, environ, _NOWHERE)
    remarks = [*_remarks(rules, providers), *absent(rules, places)]
    if keys:
        remarks += without_key(rules, providers)
    found = (*rules.warnings, *unread(folder), *(places.problem(*remark) for remark in remarks))
    return tuple(sorted(found, key=_order))


def marked(warning: Problem) -> str:
    """`a.yaml:3:5: warning: routes[0].sticky: …`, as compilers write it and editors read it."""
    path = f"{warning.path}: " if warning.path else ""
    return f"{warning.file}:{warning.line}:{warning.column}: warning: {path}{warning.message}"


def _remarks(rules: Rules, providers: Mapping[str, Provider]) -> Iterator[Remark]:
    # What has no key here has one where it serves: what is shadowed does not depend on it.
    every = {name: replace(each, active=not rules.providers[name].disabled) for name, each in providers.items()}
    table = compile_routes(rules, every, rules.where)
    intercept = rules.intercept if rules.intercept is not None else default_intercept(rules)
    yield from unused(rules)
    yield from ineffective(rules)
    yield from shadowed(rules, table)
    yield from uncatalogued(rules, providers)
    yield from unreached(rules, providers, table.built_in_direct, tuple(intercept))


def _order(problem: Problem) -> tuple[str, int, int, str]:
    return problem.file, problem.line, problem.column, problem.path
