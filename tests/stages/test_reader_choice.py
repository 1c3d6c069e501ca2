"""Who reads an attempt's reply: by the client's dialect, the operation and the provider's dialect."""

import dataclasses

import pytest
from calls import CHAT, call

from mitmgate.dialects.asking import reader_of
from mitmgate.dialects.reading import Kind
from mitmgate.exchange import Origin, Provider, Target

CHUNK = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'


def target(dialect: str, *quirks: str) -> Target:
    return Target(Provider("p", dialect, Origin("https", "p.example", 443), "/v1", quirks=frozenset(quirks)), "m")


@pytest.mark.parametrize(
    ("dialect", "path", "kind", "complete"),
    [
        ("openai", "/v1/chat/completions", Kind.GARBAGE, False),
        ("simulator", "/v1/responses", Kind.GARBAGE, False),
        ("azure", "/v1/chat/completions", Kind.GARBAGE, False),
        ("openai", "/v1/files", Kind.CONTENT, True),
        ("openai", "/v1/fine_tuning/jobs", Kind.CONTENT, True),
        ("anthropic", "/v1/messages/count_tokens", Kind.CONTENT, True),
    ],
)
def test_which_reader_reads_what(dialect: str, path: str, kind: Kind, complete: bool) -> None:
    """A stream that is documented must be what its documents say; of another the gateway can only say that it has data."""
    found = reader_of(call(path, CHAT), target(dialect), 1)
    assert found.event(b"data: <not json>\n\n") is kind
    assert found.event(b": ping\n\n") is Kind.OTHER
    assert found.complete is complete


def test_n_reaches_the_reader() -> None:
    found = reader_of(call(body=CHAT), target("openai"), 2)
    found.event(CHUNK)
    assert not found.complete


@pytest.mark.parametrize(
    ("asked", "quirks", "shown"),
    [({}, (), False), ({"stream_options": {"include_usage": True}}, (), True), ({}, ("no_stream_options",), True),
     ({"stream_options": {"include_usage": False}}, (), False)],
)  # fmt: skip
def test_a_usage_that_the_client_did_not_ask_for(asked: dict[str, object], quirks: tuple[str, ...], shown: bool) -> None:
    exchange = dataclasses.replace(call(body={**CHAT, **asked}), stream=True, document={**CHAT, **asked})
    found = reader_of(exchange, target("openai", *quirks), 1)
    for event, written in ((CHUNK, CHUNK), (USAGE, USAGE if shown else b"")):
        found.event(event)
        assert found.written(event) == written
    assert (found.tokens_input, found.tokens_output) == (3, 2)
