"""Whose call it is: the projects of the rules and how each recognises its callers (DESIGN §4, `identify:`)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from mitmgate.globs import Globs
from mitmgate.routing.match import Asked, Match
from mitmgate.rules import schema


@dataclass(frozen=True, slots=True)
class Way:
    """`identify:` of a project: all that is given must hold."""

    match: Match
    proxy_user: Globs | None = None

    def recognises(self, asked: Asked, proxy_user: str | None) -> bool:
        """Whether the caller comes this way."""
        if self.proxy_user is not None and (proxy_user is None or self.proxy_user.match(proxy_user) is None):
            return False
        return self.match(asked) is not None


@dataclass(frozen=True, slots=True)
class Project:
    """One of `projects:`, as far as its callers are concerned."""

    name: str
    id: str | None
    tenant: str | None
    way: Way | None = None                  # None: it is named by who calls


@dataclass(frozen=True, slots=True)
class Callers:
    """The projects, in the order of the rules."""

    projects: tuple[Project, ...] = ()
    named: Mapping[str, Project] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Those that recognise their callers are not theirs who merely say so.
        open_ = [project for project in self.projects if project.way is None]
        named = {project.id: project for project in open_ if project.id} | {project.name: project for project in open_}
        object.__setattr__(self, "named", named)

    def project_of(self, asked: Asked, proxy_user: str | None, claimed: str | None) -> Project | None:
        """The first project that recognises the caller; else the one that the call names, by name or id; None: unknown."""
        for project in self.projects:
            if project.way is not None and project.way.recognises(asked, proxy_user):
                return project
        return self.named.get(claimed) if claimed is not None else None


def compile_callers(projects: Mapping[str, schema.Project]) -> Callers:
    """`projects:` made ready."""
    return Callers(
        tuple(
            Project(name, str(rule.id) if rule.id else None, rule.tenant, _way(rule.identify) if rule.identify else None)
            for name, rule in projects.items()
        )
    )


def _way(rule: schema.Identify) -> Way:
    return Way(
        match=Match(
            client=tuple(ipaddress.ip_network(text, strict=False) for text in rule.client),
            header=tuple((name.lower(), Globs.parse(values)) for name, values in rule.header.items()),
        ),
        proxy_user=Globs.parse(rule.proxy_user) if rule.proxy_user else None,
    )
