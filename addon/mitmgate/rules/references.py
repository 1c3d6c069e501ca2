"""Names that one part of the rules uses and another gives: each has to be there.

Not among them: models that targets, aliases and endpoints ask for, which a provider may have, and so no cycle of
`models:` can be written: a target names a provider, and an alias is followed once.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mitmgate.rules.patterns import MATCHES, TARGETS, Patterns, serving
from mitmgate.rules.positions import Path, Problem, shown
from mitmgate.rules.values import Values
from mitmgate.rules.wording import Suggestions

UNKNOWN_PROJECT: Final = "unknown"
"""The project of callers that no project identifies: it is always there."""


@dataclass(frozen=True, slots=True)
class _Reference:
    what: str
    table: str                              # the key under which it has to stand
    globs: bool = False                     # a pattern is no name, and is left alone
    key: str = ""                           # where the name stands if the value is a map
    given: Collection[str] = ()             # names that are there without being written


_PROVIDER: Final = _Reference("provider", "providers")
_GUARDRAIL: Final = _Reference("guardrail", "guardrails", key="use")
_PROJECT: Final = _Reference("project", "projects", globs=True, given=(UNKNOWN_PROJECT,))

_REFERENCES: Final = Patterns(
    [
        *((f"{place}.provider", _PROVIDER) for place in TARGETS),
        *((f"{place}.project", _PROJECT) for place in MATCHES),
        ("budgets[].of.project", _PROJECT),
        *((place, _GUARDRAIL) for place in serving(["guardrails[]"])),
        ("policies[].guardrails[]", _GUARDRAIL),
        ("projects.*.guardrails[]", _GUARDRAIL),
        ("projects.*.endpoints.*.guardrails[]", _GUARDRAIL),
        ("projects.*.tier", _Reference("tier", "tiers")),
        ("budgets[].notify[]", _Reference("receiver", "notify")),
        ("budgets[].when_spent.route_to", _Reference("model", "models")),
    ]
)


def unknown_names(values: Values, suggestions: Suggestions) -> Iterator[Problem]:
    """Every name that stands nowhere."""
    for path, value, reference in _REFERENCES.walk(values.data):
        if isinstance(value, list):
            for index, each in enumerate(value):
                yield from _unknown((*path, index), each, reference, values, suggestions)
        elif isinstance(value, dict):
            if reference.key in value:
                yield from _unknown((*path, reference.key), value[reference.key], reference, values, suggestions)
        else:
            yield from _unknown(path, value, reference, values, suggestions)


def _unknown(
    path: Path, name: Any, reference: _Reference, values: Values, suggestions: Suggestions
) -> Iterator[Problem]:
    if not isinstance(name, str) or not name or (reference.globs and ("*" in name or "?" in name)):
        return
    names = _names(path, reference, values.data)
    if name in names or name in reference.given:
        return
    written = values.written(path)
    near = suggestions.meant(written, names) or f"; it has to stand under `{reference.table}`"
    yield Problem.at(values.place(path), path, f"unknown {reference.what} `{shown(written)}`{near}")


def _names(path: Path, reference: _Reference, document: Mapping[str, Any]) -> Collection[str]:
    """What is there to be named; inside a team its own too."""
    names = document.get(reference.table)
    main = names if isinstance(names, dict) else {}
    if path[0] != "teams":
        return main
    team = document["teams"][path[1]].get(reference.table)
    return {**main, **team} if isinstance(team, dict) else main
