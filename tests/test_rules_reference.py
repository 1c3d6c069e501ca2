"""docs/rules.md names every key of the rules with its default, and nothing that is not a key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from mitmgate.endpoints.recognition import endpoint_of
from mitmgate.exchange import Deadlines
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.routing.retry import LONGEST_WAIT, MOST_TRIES
from mitmgate.rules import files, nodes
from mitmgate.rules.schema import OPERATIONS, Rules

PAGE = (Path(__file__).parents[1] / "docs" / "rules.md").read_text(encoding="utf-8")
TOP = "rules"
"""What the heading of the top level calls it."""


def written() -> dict[tuple[str, str], str]:
    """The rows `| key | type | default | meaning |`: (section, key) to the cell of the default.

    A heading names one section or several in backticks; its tables are about each of them.
    """
    rows: dict[tuple[str, str], str] = {}
    sections: list[str] = []
    of_keys = False                         # within such a table
    for line in PAGE.splitlines():
        of_keys = line == "| key | type | default | meaning |" or (of_keys and line.startswith("|"))
        if line.startswith("#"):
            sections = re.findall(r"`([^`]+)`", line)
        elif of_keys and (cells := re.fullmatch(r"\| `([a-z_]+)` \|(.*)", line)):
            default = re.split(r"(?<!\\)\|", cells[2])[1].strip()
            for section in sections:
                assert (section, cells[1]) not in rows, f"`{cells[1]}` stands twice under `{section}`"
                rows[section, cells[1]] = default
    return rows


def maps_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in maps_in(argument)]


def keys(section: str = TOP, model: type[BaseModel] = Rules) -> Iterator[tuple[str, str, type[BaseModel], str]]:
    """Section, key, model and attribute of every key; a map's section is called after the key that it stands under."""
    for attribute, field in model.model_fields.items():
        key = field.alias or attribute
        yield section, key, model, attribute
        for inner in dict.fromkeys(maps_in(field.annotation)):
            yield from keys(key, inner)


KEYS = {(section, key): (model, attribute) for section, key, model, attribute in keys()}


def test_the_walk_reaches_the_deepest_keys() -> None:
    assert {("backoff", "base"), ("credential", "env"), ("fallback", "weight"), ("routes", "set")} <= KEYS.keys()


@pytest.mark.parametrize(("section", "key"), sorted(KEYS))
def test_every_key_is_there_with_its_default(section: str, key: str) -> None:
    model, attribute = KEYS[section, key]
    field = model.model_fields[attribute]
    cell = written().get((section, key))
    assert cell is not None, f"docs/rules.md says nothing of `{key}` under `{section}`"
    if field.is_required():
        assert cell == "required"
        return
    default = field.get_default(call_default_factory=True)
    form: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    if not can_be_written(form, default):
        assert cell.startswith("—"), f"`{section}.{key}` has no default that can be written; the page says {cell}"
        return
    code = re.match(r"`([^`]+)`", cell)
    assert code, f"`{section}.{key}`: the page gives no default, the schema {default!r}"
    read = form.validate_python(YAML(typ="safe").load(code[1]))
    assert read == default, f"`{section}.{key}`: the page says {code[1]}, the schema {default!r}"


def can_be_written(form: TypeAdapter[Any], default: object) -> bool:
    """Not where "not given" differs from all that may stand there: None, and an empty list that would match nothing."""
    if default is None:
        return False
    if default in ((), False):
        try:
            form.validate_python([] if default == () else default)
        except ValidationError:
            return False
    return True


def test_no_key_is_there_that_the_schema_does_not_have() -> None:
    assert written().keys() <= KEYS.keys()


def test_the_deadlines_that_hold_without_a_rule() -> None:
    rows, built_in = written(), Deadlines()
    openai, ours = endpoint_of("/v1/embeddings", "POST"), endpoint_of("/api/v1/embeddings", "POST")
    assert openai is not None
    assert ours is not None
    assert rows["timeout", "connect"] == f"— (`{built_in.connect:.0f}s`)"
    assert rows["timeout", "idle"] == f"— (`{built_in.idle:.0f}s`)"
    assert rows["timeout", "total"] == f"— (`{openai.default_total:.0f}s`; `{ours.default_total:.0f}s` on `/api/v1`)"
    assert (built_in.first_token, built_in.duration) == (None, None)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_there(operation: str) -> None:
    assert f"`{operation}`" in PAGE


@pytest.mark.parametrize("name", VENDORS)
def test_every_vendor_is_there(name: str) -> None:
    vendor = VENDORS[name]
    row = next((line for line in PAGE.splitlines() if re.match(rf"\| `{name}`[ ,]|\| .*, `{name}` ", line)), "")
    for part in (vendor.variable, vendor.base_url, *vendor.hosts):
        assert part is None or f"`{part}`" in row, f"docs/rules.md does not say {part} in the row of {name}"


@pytest.mark.parametrize("dialect", DIALECT_AUTHORISATION)
def test_every_dialect_is_there(dialect: str) -> None:
    assert f"`{dialect}`" in PAGE


@pytest.mark.parametrize(
    "bound",
    [
        f"{MOST_TRIES} tries", f"{LONGEST_WAIT:.0f} s", f"{files.LARGEST >> 10} KiB", f"{files.MOST_FILES:,} files",
        f"{nodes.MOST_NODES:,} values", f"{nodes.MOST_REPEATED:,} values", f"{nodes.DEEPEST} levels",
    ],
)  # fmt: skip
def test_every_bound_is_there(bound: str) -> None:
    assert bound in PAGE
