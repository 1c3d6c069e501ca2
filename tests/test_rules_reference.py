"""docs/rules.md names every key of the rules with its default, and nothing that is not a key."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from mitmgate.conditions.bounds import LONGEST
from mitmgate.endpoints.recognition import endpoint_of
from mitmgate.exchange import Deadlines
from mitmgate.providers.capabilities import CAPABILITIES, TIERS
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.routing.retry import LONGEST_WAIT, MOST_TRIES
from mitmgate.rules import files, later, loader, nodes, words
from mitmgate.rules.schema import OPERATIONS, Rules

PAGE = (Path(__file__).parents[1] / "docs" / "rules.md").read_text(encoding="utf-8")
TOP = "rules"
"""What the heading of the top level calls it."""


def rows() -> Iterator[tuple[list[str], re.Match[str]]]:
    """The rows `| key | type | default | meaning |`, each with the sections that it is about: key, and the other cells.

    A heading names one section or several in backticks; its tables are about each of them.
    """
    sections: list[str] = []
    of_keys = False                         # within such a table
    for line in PAGE.splitlines():
        of_keys = line == "| key | type | default | meaning |" or (of_keys and line.startswith("|"))
        if line.startswith("#"):
            sections = re.findall(r"`([^`]+)`", line)
        elif of_keys and (cells := re.fullmatch(r"\| `([a-z_]+)` \|(.*)", line)):
            yield sections, cells


def written() -> dict[tuple[str, str], str]:
    """(section, key) to the cell of the default."""
    found: dict[tuple[str, str], str] = {}
    for sections, cells in rows():
        default = re.split(r"(?<!\\)\|", cells[2])[1].strip()
        for section in sections:
            assert (section, cells[1]) not in found, f"`{cells[1]}` stands twice under `{section}`"
            found[section, cells[1]] = default
    return found


def maps_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in maps_in(argument)]


TOP_MAPS = {field.alias or name: maps_in(field.annotation) for name, field in Rules.model_fields.items()}


def keys(section: str = TOP, model: type[BaseModel] = Rules) -> Iterator[tuple[str, str, type[BaseModel], str]]:
    """Section, key, model and attribute of every key; a map's section is called after the key that it stands under.

    `guardrails[]` is what stands in lists of that name, since `guardrails` is another map at the top; `teams.prompts`
    is what a team may say of them.
    """
    for attribute, field in model.model_fields.items():
        key = field.alias or attribute
        yield section, key, model, attribute
        for inner in dict.fromkeys(maps_in(field.annotation)):
            plain = inner in TOP_MAPS.get(key, [inner])
            listed = get_origin(field.annotation) is tuple
            yield from keys(key if plain else f"{key}[]" if listed else f"{section}.{key}", inner)


KEYS = {(section, key): (model, attribute) for section, key, model, attribute in keys()}
del KEYS[TOP, "teams"]                      # nobody writes it: it is made of the files in teams/


def test_a_section_is_one_map() -> None:
    """Else the page could say of two keys what is true of one."""
    assert not [each for each in keys() if KEYS.get(each[:2], each[2:]) != each[2:]]


def test_the_walk_reaches_the_deepest_keys() -> None:
    assert {
        ("backoff", "base"), ("credential", "env"), ("fallback", "weight"), ("routes", "set"), ("not", "when"),
        ("guardrails[]", "use"), ("guardrails", "check"), ("speak", "voice"), ("abort_if", "over"), ("for", "zone"),
    } <= KEYS.keys()  # fmt: skip


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


LATER = "*(later)*"


def waiting() -> set[tuple[str, str]]:
    """Section and key of every pattern of `later`."""
    found = set()
    for pattern, _ in later.TABLE:
        section, key = [TOP, *re.findall(r"[a-z_]+", pattern)][-2:]
        model, attribute = KEYS[section, key]
        if pattern.endswith(".*") and get_origin(model.model_fields[attribute].annotation) is not dict:
            found |= {(key, inner) for owner, inner in KEYS if owner == key}
        else:
            found.add((section, key))
    return found


def test_what_has_no_effect_yet_is_marked_and_nothing_else() -> None:
    marked = {
        (section, cells[1])
        for sections, cells in rows()
        for section in sections
        if LATER in cells[2]
    }
    assert marked == waiting()


def test_the_deadlines_that_hold_without_a_rule() -> None:
    defaults, built_in = written(), Deadlines()
    openai, ours = endpoint_of("/v1/embeddings", "POST"), endpoint_of("/api/v1/embeddings", "POST")
    assert openai is not None
    assert ours is not None
    assert defaults["timeout", "connect"] == f"— (`{built_in.connect:.0f}s`)"
    assert defaults["timeout", "idle"] == f"— (`{built_in.idle:.0f}s`)"
    assert defaults["timeout", "total"] == f"— (`{openai.default_total:.0f}s`; `{ours.default_total:.0f}s` on `/api/v1`)"
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


def test_the_rules_know_the_words_for_what_models_can_do() -> None:
    """The schema is below the catalogue and cannot import its words."""
    model = TOP_MAPS["models"][0]
    said = re.findall(r"'([a-z_]+)'", str(model.model_fields["capabilities"].annotation))
    assert tuple(said) == CAPABILITIES
    assert ("none", *re.findall(r"'([a-z]+)'", str(model.model_fields["reasoning"].annotation))) == TIERS
    assert all(f"`{word}`" in next(cells[2] for _, cells in rows() if cells[1] == "capabilities") for word in CAPABILITIES)


@pytest.mark.parametrize(
    "bound",
    [
        f"{MOST_TRIES} tries", f"{LONGEST_WAIT:.0f} s", f"{files.LARGEST >> 10} KiB", f"{files.MOST_FILES:,} files",
        f"{files.LARGEST_FOLDER >> 20} MiB and {loader.MOST_VALUES:,} values in all",
        f"{nodes.MOST_NODES:,} values", f"{nodes.MOST_REPEATED:,} values", f"{nodes.DEEPEST} levels",
        f"{LONGEST:,} characters", f"{words.MOST_CONDITIONS:,} different ones", f"{words.MOST_CHARACTERS:,} characters",
    ],
)  # fmt: skip
def test_every_bound_is_there(bound: str) -> None:
    assert bound in PAGE
