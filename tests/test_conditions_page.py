"""docs/conditions.md lists what conditions may read, each with its type, and nothing else."""

import re
from pathlib import Path

from cel_expr_python import cel

from mitmgate.conditions.bounds import LONGEST, MOST_LOOPS
from mitmgate.conditions.facts import MOST_VALUES
from mitmgate.conditions.fields import AROUND, BODY

PAGE = (Path(__file__).parents[1] / "docs" / "conditions.md").read_text("utf-8")
TYPES = {
    "text": "STRING", "true or false": "BOOL", "whole number": "INT", "number": "DOUBLE", "list": "LIST", "map": "MAP",
    "anything": "DYN",
}  # fmt: skip


def kind(type_: cel.Type) -> str:
    return type_.name().partition("<")[0]


def test_the_body() -> None:
    listed = {}
    for row in re.finditer(r"^\| ([a-z ]+) \| ((?:`\w+` ?)+)", PAGE, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row[2]):
            assert name not in listed, name
            listed[name] = TYPES[row[1]]
    assert listed == {name: kind(field.type) for name, field in BODY.items()}


def test_around_the_body() -> None:
    table = PAGE.partition("Of a JSON body")[0]
    listed = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)}
    assert listed == set(AROUND)


def test_the_bounds() -> None:
    assert f"{LONGEST:,} characters" in PAGE
    assert f"{MOST_VALUES:,} values" in PAGE
    assert MOST_LOOPS == 4
    assert "four of `all`" in PAGE
