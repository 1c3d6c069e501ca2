"""One team's rules: what stands in `teams/NAME.yaml`, and holds inside its scope only."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mitmgate.rules.schema.guarding import Guardrail
from mitmgate.rules.schema.matching import WrittenAlias
from mitmgate.rules.schema.section import Section
from mitmgate.rules.schema.serving import Model, Route
from mitmgate.rules.units import Glob, Listed, Name, OneOrMore, Text, expected


def _version(value: object) -> object:
    if value != 1 or isinstance(value, bool):
        raise expected("1, the only version there is")
    return value


class Scope(Section):
    """Whose requests a team's rules are about: projects of the main rules, by their names."""

    project: OneOrMore[Name]


class TeamPrompts(Section):
    """Templates of the team's own. What takes a credential to reach is for the main rules."""

    source: Literal["files"] = "files"


class Team(Section):
    """A team's own rules. It has no key that would reach outside its scope or hold a credential."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = 1
    scope: Scope
    models: dict[Text, Model] = Field(default_factory=dict)
    routes: Listed[Route] = ()
    aliases: dict[Glob, WrittenAlias] = Field(default_factory=dict)
    guardrails: dict[Name, Guardrail] = Field(default_factory=dict)
    prompts: TeamPrompts = TeamPrompts()
