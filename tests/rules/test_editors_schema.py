"""The JSON Schema for editors against the models: what one accepts the other does, as far as a schema can say it."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import test_right_files
import test_whole_format
import test_wrong_files as wrong

from mitmgate.rules.editors import json_schema
from mitmgate.rules.nodes import compose
from mitmgate.rules.values import read_values

SCHEMA = jsonschema.Draft202012Validator(json_schema())
# What takes more than the value itself to see, or a compiler, or a database: no schema can say it.
BEYOND = (
    # names that stand elsewhere, or are given by the vendor table
    "unknown provider", "unknown dialect", "unknown guardrail", "unknown project", "unknown tier", "unknown receiver",
    "unknown model", "mitmgate knows no address",
    # one value against another
    "others than this machine", "clear text", "weight 0", "a project only tightens", "`unknown` are those", "do not fit",
    "has no endpoints", "puts back what was redacted", "`source: langfuse`", "names no tag",
    # what only a parser, a compiler or a database knows
    "looks like a range", "is not an address or a network", "expected an address or network", "localhost:65536",
    "a.example:99999",
    "belongs to the connection", "expected one line of text", "match.when: at character", "match.when: the condition gives",
    "expected a time zone", "the number", "infinity",
    "telemetry.otlp: has no value",
)  # fmt: skip


def data(text: str) -> Any:
    """The document as the loader hands it to the models."""
    root, problems = compose(text, "rules.yaml")
    assert root is not None
    assert not problems
    return read_values(root, wrong.ENVIRON).data


def wrong_files() -> Iterator[Any]:
    """Those that are YAML, and whose mistake is in no `${…}` or key that is written twice."""
    cases = [
        *wrong.WHOLE,
        *((wrong.provider(text), expected) for text, expected in wrong.PROVIDERS),
        *((wrong.route(line), expected) for line, expected in wrong.ROUTES),
        *((f"version: 1\nproviders: {{openai: {{}}}}\nroutes:\n{text}\n", expected) for text, expected in wrong.OTHER_ROUTES),
        *((f"version: 1\n{text}\n", expected) for text, expected in wrong.GOVERNING),
    ]
    for text, expected in cases:
        if text and not text.startswith("-") and "${" not in text and "given twice, first at rules" not in expected:
            yield pytest.param(text, expected, id=expected)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("text", [test_right_files.FULL, test_whole_format.WHOLE, "version: 1\ntelemetry: {otlp: null}\n"])
def test_it_accepts_right_files(text: str) -> None:
    SCHEMA.validate(data(text))


@pytest.mark.parametrize(("text", "expected"), list(wrong_files()))
def test_it_refuses_wrong_files(text: str, expected: str) -> None:
    beyond = all(any(words in line or words in text for words in BEYOND) for line in expected.split("\n"))
    assert SCHEMA.is_valid(data(text)) == beyond
