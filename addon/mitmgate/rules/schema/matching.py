"""Which requests a rule is about: `match`, its `not`, and `aliases`."""

from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from mitmgate.rules.schema.section import Section, as_map
from mitmgate.rules.units import Glob, HeaderName, Name, Network, OneOrMore, Text, broken
from mitmgate.rules.words import ConditionText

Operation = Literal[
    "chat", "completions", "responses", "messages", "count_tokens", "embeddings", "rerank", "transcription", "speech",
    "voices", "audio_pipeline", "moderation", "image", "files", "batches", "models", "realtime", "other",
]
OPERATIONS: Final[tuple[str, ...]] = get_args(Operation)


class MatchKeys(Section):
    """All given keys must hold; a list means any of. Globs as text, networks as text; an absent key is ()."""

    host: OneOrMore[Glob] = ()
    path: OneOrMore[Glob] = ()
    operation: OneOrMore[Operation] = ()
    model: OneOrMore[Glob] = ()
    project: OneOrMore[Glob] = ()
    tenant: OneOrMore[Glob] = ()
    tag: dict[Name, OneOrMore[Glob]] = Field(default_factory=dict)
    task: OneOrMore[Glob] = ()
    header: dict[HeaderName, OneOrMore[Glob]] = Field(default_factory=dict)
    client: OneOrMore[Network] = ()
    when: ConditionText | None = None               # CEL, which compiles


def _not_everything(keys: MatchKeys) -> MatchKeys:
    if not any(getattr(keys, key) for key in MatchKeys.model_fields):
        raise broken("an empty map would leave nothing to match: give it a key")
    return keys


class Match(MatchKeys):
    """`exclude` is the key `not`: requests for which all of its keys hold are not meant."""

    exclude: Annotated[MatchKeys, AfterValidator(_not_everything)] | None = Field(
        default=None, alias="not", json_schema_extra={"minProperties": 1}
    )


class Alias(Section):
    """The model that stands for the one that the client named, where `match` holds."""

    model: Text
    match: Match = Match()


WrittenAlias = Annotated[
    Alias,
    BeforeValidator(as_map("model", "a model, or a map with model, match"), json_schema_input_type=Text | Alias),
]
