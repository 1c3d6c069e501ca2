"""The client's word for the model in replies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.dialects.naming import Name
from mitmgate.sse import EventSplitter, event_data


@pytest.mark.parametrize(
    ("dialect", "body", "told"),
    [
        ("openai", b'{ "model":"llama", "n": 1.0 }', b'{ "model":"gpt-4o", "n": 1.0 }'),
        ("openai", b'{"id":"a","big":123456789012345678901234567890,"model":"x"}',
         b'{"id":"a","big":123456789012345678901234567890,"model":"gpt-4o"}'),
        ("openai", b'{"type":"response.created","response":{"model":"x","id":"r"}}',
         b'{"type":"response.created","response":{"model":"gpt-4o","id":"r"}}'),
        ("anthropic", b'{"type":"message_start","message":{"model":"x"}}',
         b'{"type":"message_start","message":{"model":"gpt-4o"}}'),
        ("gemini", b'{"modelVersion":"x"}', b'{"modelVersion":"gpt-4o"}'),
        ("gemini", b'{"model":"x"}', b'{"model":"x"}'),
        ("openai", b'{"model":7}', b'{"model":7}'),
        ("openai", b'["model"]', b'["model"]'),
        ("openai", b'{"model', b'{"model'),
        ("openai", b'{"choices":[{"model":"x"}]}', b'{"choices":[{"model":"x"}]}'),
    ],
)  # fmt: skip
def test_in_a_body(dialect: str, body: bytes, told: bytes) -> None:
    assert Name(dialect, "gpt-4o").in_body(body) == told


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (b'data: {"model":"x"}\n\n', b'data: {"model":"y"}\n\n'),
        (b'data:{"model":"x"}\r\n\r\n', b'data: {"model":"y"}\n\n'),
        (b'event: a\nid: 1\ndata: {"model":\ndata: "x"}\n\n', b'event: a\nid: 1\ndata: {"model": "y"}\n\n'),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
        (b": model\n\n", b": model\n\n"),
    ],
)
def test_in_an_event(event: bytes, told: bytes) -> None:
    assert Name("openai", "y").in_event(event) == told


@given(st.dictionaries(st.sampled_from(["model", "response", "modelVersion", "a"]),
                       st.text(max_size=9) | st.dictionaries(st.just("model"), st.text(max_size=5))),
       st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())  # fmt: skip
def test_an_event_stays_one_event(document: dict[str, object], end: bytes, named: bool) -> None:
    event = (b"event: e" + end if named else b"") + b"data: " + json.dumps(document, indent=None).encode() + end + end
    told = Name("openai", "told").in_event(event)
    assert EventSplitter().feed(told + b"data: next\n\n") == [told, b"data: next\n\n"]
    found = json.loads(event_data(told) or b"")
    assert found.keys() == document.keys()
    if isinstance(document.get("model"), str):
        assert found["model"] == "told"
