"""What every map of the rules is, and the maps that stand in several others: credentials."""

from collections.abc import Callable
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, GetJsonSchemaHandler, Tag, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mitmgate.rules.units import Name, NonEmpty, Secret, Text, Variable, broken, expected, written_as

ONE: Final = "<one>"
SEVERAL: Final = "<several>"


class Section(BaseModel):
    """A map of the rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    def __deepcopy__(self, memo: object = None) -> Self:
        """Itself: nothing in it changes, and pydantic would copy each default for each route."""
        return self


def one_or_several(value: object) -> str:
    """The tag of a union of a value with a list of such.

    The tags are in the paths of pydantic's errors; no key of the rules looks like them, so `wording` can leave them out.
    """
    return SEVERAL if isinstance(value, list | tuple) else ONE      # a tuple: when the rules are dumped


def word_or_map(value: object) -> str:
    """The tag of a union of a single value with a map."""
    return SEVERAL if isinstance(value, dict | Section) else ONE


def as_map(key: str, what: str) -> Callable[[object], object]:
    """Reads a bare text as the map whose `key` it is."""

    def form(value: object) -> object:
        if isinstance(value, str):
            return {key: value}
        if not isinstance(value, dict | Section):
            raise expected(what)
        return value

    return form


def _true(value: object) -> object:
    if value is not True:
        raise expected("true")
    return value


def _credential_form(value: object) -> object:
    """The bare word `client` as the map that it stands for."""
    if isinstance(value, str):
        if value != "client":
            raise expected("`client` or a map with one of env, file, value, vault")
        return {"client": True}
    return value


class Credential(Section):
    """Where a secret comes from: exactly one of the five. `file` is relative to the rules folder."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Variable | None = None
    file: Text | None = None
    value: Secret | None = None
    client: Annotated[bool, BeforeValidator(_true), written_as(const=True)] = False     # pass the caller's own key on
    vault: Name | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise broken("expected exactly one of env, file, value, client, vault")
        return self


OneCredential = Annotated[
    Credential, BeforeValidator(_credential_form, json_schema_input_type=Literal["client"] | Credential)
]
Credentials = Annotated[
    Annotated[OneCredential, Tag(ONE)] | Annotated[NonEmpty[OneCredential], Tag(SEVERAL)],
    Discriminator(one_or_several),
]


def _own(value: object) -> object:
    if value == "client" or (isinstance(value, dict) and "client" in value):
        raise broken("the caller's key belongs to calls: name a secret of the gateway's own")
    return value


class _NotTheCallers:
    """Tells editors that `client` is not meant here."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "properties": {"client": False}}


OwnCredential = Annotated[
    OneCredential, BeforeValidator(_own, json_schema_input_type=Credential), _NotTheCallers()
]


def some_of(section: Section, *keys: str) -> None:
    """Raises unless one of the keys is given: without any the map would mean nothing or everything."""
    if not section.model_fields_set.intersection(keys):
        raise broken(f"expected at least one of {', '.join(keys)}")


def exactly_one_of(section: Section, *keys: str) -> None:
    """Raises unless exactly one of the keys is given."""
    if len(section.model_fields_set.intersection(keys)) != 1:
        raise broken(f"expected exactly one of {', '.join(keys)}")
