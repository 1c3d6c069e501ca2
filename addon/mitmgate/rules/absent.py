"""What rules speak of and nobody has: regions, zones and providers in policies and projects; names in conditions.

Such rules load, and do nothing or allow nothing: a policy about a region that is written otherwise protects nothing.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from mitmgate.globs import Glob, Globs
from mitmgate.rules import schema
from mitmgate.rules.places import Places
from mitmgate.rules.positions import Path, shown
from mitmgate.rules.references import UNKNOWN_PROJECT
from mitmgate.rules.remarks import Remark, matches
from mitmgate.rules.wording import Suggestions

_MOST_COMPARED: Final = 100_000             # patterns with names, some 1 µs each; beyond it nothing more is said
_LISTED: Final = 8                          # names that a message lists
_VARIABLE: Final = "${"
# Names in conditions that are written out: `header["X-Env"]`, `"X-Env" in header`, `project == "x"`.
_TEXT: Final = r"""(?:"([^"\\]*)"|'([^'\\]*)')"""
_HEADER: Final = re.compile(rf"(?<![\w.])header\[\s*{_TEXT}\s*\]|{_TEXT}\s+in\s+header\b")
_PROJECT: Final = re.compile(rf"(?<![\w.])project\s*[=!]=\s*{_TEXT}")


def absent(rules: schema.Rules, places: Places) -> Iterator[Remark]:
    """See the module."""
    yield from _Absent(rules, places).remarks()
    yield from _conditions(rules, places)


class _Absent:
    """One look at the providers of one set of rules."""

    def __init__(self, rules: schema.Rules, places: Places) -> None:
        self._rules = rules
        self._places = places
        self._suggestions = Suggestions()
        self._left = _MOST_COMPARED
        # An original destination that no provider is at has its host for a name, no region, and is external.
        given = rules.builtin_routes
        self._originals = rules.unmatched != "refuse" and (given is None or "original" in given)
        self._names = sorted(rules.providers)
        self._zones = {each.zone for each in rules.providers.values()} | ({"external"} if self._originals else set())
        self._regions = {each.region for each in rules.providers.values() if each.region is not None}

    def remarks(self) -> Iterator[Remark]:
        for index, policy in enumerate(self._rules.policies):
            yield from self._spoken_of(policy.target, ("policies", index, "for"))
            if policy.allow is not None:
                yield from self._allowed(policy.allow, ("policies", index, "allow"))
        for name, project in self._rules.projects.items():
            if project.allow is not None:
                yield from self._allowed(project.allow, ("projects", name, "allow"))

    def _spoken_of(self, reach: schema.PolicyTarget, path: Path) -> Iterator[Remark]:
        why = ", so the policy holds for nothing"
        found = [*self._of_regions(reach.region, (*path, "region"), why)]
        found += self._of_providers(reach.provider, (*path, "provider"), why)
        if reach.zone is not None and reach.zone not in self._zones:
            found.append(Remark((*path, "zone"), f"no provider is in this zone{why}"))
        yield from found
        if not found and not self._some(reach):
            yield Remark(path, f"no provider has all of this{why}")

    def _allowed(self, allow: schema.Allow, path: Path) -> Iterator[Remark]:
        yield from self._of_regions(allow.regions, (*path, "regions"), ", so no target is allowed")
        yield from self._of_providers(allow.providers, (*path, "providers"), ", so no target is allowed")

    def _of_regions(self, patterns: Sequence[str], path: Path, why: str) -> Iterator[Remark]:
        missing = self._missing(patterns, self._regions)
        if not missing:
            return
        names = self._written_regions
        listed = f"the regions are {_listed(names)}" if names else "no provider says its `region`"
        yield from self._not_there(patterns, missing, path, "fits no provider's region", why, names, listed)

    @cached_property
    def _written_regions(self) -> list[str]:
        """As the files have them: the environment's are not shown."""
        given = (self._places.written(("providers", name, "region")) for name in self._rules.providers)
        return sorted({each for each in given if each})

    def _of_providers(self, patterns: Sequence[str], path: Path, why: str) -> Iterator[Remark]:
        hosts = frozenset(each for each in patterns if self._originals and "." in each)
        missing = [each for each in self._missing(patterns, self._rules.providers) if patterns[each] not in hosts]
        if not missing:
            return
        names = self._names
        listed = f"the providers are {_listed(names)}"
        yield from self._not_there(patterns, missing, path, "fits no provider", why, names, listed)

    def _missing(self, patterns: Sequence[str], names: Collection[str]) -> list[int]:
        self._left -= len(patterns) * (1 + len(names))
        if self._left < 0:
            return []
        globs = [Glob.parse(pattern) for pattern in patterns]
        return [index for index, glob in enumerate(globs) if all(glob.match(name) is None for name in names)]

    def _not_there(
        self, patterns: Sequence[str], missing: Sequence[int], path: Path, what: str, why: str, names: Collection[str],
        listed: str,
    ) -> Iterator[Remark]:  # fmt: skip
        if len(missing) < len(patterns):
            why = ""
        self._left -= len(names)
        known = [name for name in names if _VARIABLE not in name]
        for index in missing:
            item = (*path, index)
            place = item if self._places.line(item) is not None else path
            near = self._suggestions.meant((self._places.written(place) or "").lower().strip("*"), known)
            yield Remark(place, f"{what}{why}: {listed}{near}")

    def _some(self, reach: schema.PolicyTarget) -> bool:
        """Whether one provider has all that is asked, or an original destination may have."""
        regions, providers = Globs.parse(reach.region), Globs.parse(reach.provider)
        self._left -= (1 + len(reach.region) + len(reach.provider)) * len(self._rules.providers)
        if self._left < 0:
            return True
        if self._originals and not reach.region and reach.zone != "internal" and _may_be_host(reach.provider):
            return True
        return not (reach.zone or reach.region or reach.provider) or any(
            reach.zone in (None, each.zone)
            and (not reach.region or (each.region is not None and regions.match(each.region) is not None))
            and (not reach.provider or providers.match(name) is not None)
            for name, each in self._rules.providers.items()
        )


def _may_be_host(patterns: Sequence[str]) -> bool:
    return not patterns or any("." in each or "*" in each for each in patterns)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more


def _conditions(rules: schema.Rules, places: Places) -> Iterator[Remark]:
    projects: Mapping[str, object] = {**rules.projects, UNKNOWN_PROJECT: None}
    suggestions = Suggestions()
    for match_path, keys in matches(rules):
        path = (*match_path, "when")
        # What is written: a name that the environment gives is not shown.
        text = places.text(path) if keys.when else None
        if text is None:
            continue
        for name in _written(_HEADER, text):
            if name != name.lower():
                message = f"no header is called `{shown(name)}` there: header names are in lower case, `{shown(name.lower())}`"
                yield Remark(path, message)
        for name in _written(_PROJECT, text):
            if name not in projects:
                near = suggestions.meant(name, projects) or "; it has to stand under `projects`"
                yield Remark(path, f"no project is called `{shown(name)}`{near}")


def _written(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    found = (next(group for group in match.groups() if group is not None) for match in pattern.finditer(text))
    yield from dict.fromkeys(name for name in found if _VARIABLE not in name)
