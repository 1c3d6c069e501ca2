"""Guardrails, where they are used, and what is allowed or refused."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, PlainValidator, Tag, model_validator

from mitmgate.rules.schema.section import ONE, SEVERAL, Section, as_map, some_of, word_or_map
from mitmgate.rules.units import (
    Flag,
    Fraction,
    Glob,
    Name,
    NonEmpty,
    OneOrMore,
    Text,
    Whole,
    broken,
    expected,
    written_as,
)
from mitmgate.rules.values import unexpanded
from mitmgate.rules.words import InsidePath

Action = Literal["redact", "block", "flag"]
Direction = Literal["request", "response"]
BOTH: Final[tuple[Direction, ...]] = get_args(Direction)


class Restore(Section):
    """Where else than in text originals are put back."""

    inside: NonEmpty[Literal["tools"]] = Field(alias="in")


def _restore_flag(value: object) -> bool:
    given = unexpanded(value)
    if not isinstance(given, bool):
        raise expected("true, false or a map with `in`")
    return given


RestoreFlag = Annotated[bool, PlainValidator(_restore_flag), written_as(type="boolean")]


class Guardrail(Section):
    """A check and what it does with what it finds. `schema_path` is the key `schema`, `entities` None: all it knows."""

    model_config = ConfigDict(json_schema_extra={
        "if": {"properties": {"check": {"const": "schema_validation"}}, "required": ["check"]}, "then": {"required": ["schema"]}
    })

    check: Name
    on: NonEmpty[Direction] = BOTH
    action: Action = "block"
    on_error: Literal["block", "allow", "flag"] = "block"
    entities: NonEmpty[Name] | None = None
    categories: NonEmpty[Name] | None = None
    threshold: Fraction | None = None
    schema_path: InsidePath | None = Field(default=None, alias="schema")
    repair: Annotated[int, Whole(0, 5)] = 0
    restore: Annotated[
        Annotated[RestoreFlag, Tag(ONE)] | Annotated[Restore, Tag(SEVERAL)], Discriminator(word_or_map)
    ] = False
    shadow: Flag = False
    stream: Literal["window", "whole", "observe"] = "window"
    engine: Name | None = None

    @model_validator(mode="after")
    def _what_it_needs(self) -> Self:
        if self.check == "schema_validation" and self.schema_path is None:
            raise broken("`check: schema_validation` needs a `schema`")
        if self.restore is not False and self.action != "redact":
            raise broken("`restore` puts back what was redacted: it needs `action: redact`")
        return self


class GuardrailUse(Section):
    """A guardrail by its name, and the action that it has here if it is another."""

    use: Name
    action: Action | None = None


WrittenUse = Annotated[
    GuardrailUse,
    BeforeValidator(
        as_map("use", "a guardrail's name, or a map with use, action"), json_schema_input_type=Name | GuardrailUse
    ),
]


class Allow(Section):
    """What targets may be; a key that is not given allows any."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    regions: OneOrMore[Glob] = ()
    providers: OneOrMore[Glob] = ()
    models: OneOrMore[Glob] = ()

    @model_validator(mode="after")
    def _something(self) -> Self:
        some_of(self, "regions", "providers", "models")
        return self


class Refuse(Section):
    """What a caller is told instead of being served."""

    status: Annotated[int, Whole(400, 599)] = 403
    message: Text
