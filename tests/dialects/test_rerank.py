"""Ranking beyond its goldens: nothing that comes breaks it, and all providers' answers say the same."""

import copy
import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mitmgate.dialects.codec import Ask, Garbled
from mitmgate.dialects.cohere.codec import PROVIDERS as COHERE
from mitmgate.dialects.reading import Kind
from mitmgate.dialects.rerank.codec import PROVIDERS
from mitmgate.errors import Refusal

SERVERS, OTHER = PROVIDERS["rerank"], COHERE["rerank"]
NAMES = st.sampled_from(
    [
        "query", "documents", "text", "top_n", "return_documents", "max_tokens_per_doc", "model", "results", "data", "index",
        "relevance_score", "usage", "total_tokens", "meta", "billed_units", "tokens", "search_units", "detail", "error",
        "message", "msg", "code",
    ]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=20
)
OBJECTS = st.dictionaries(NAMES | st.text(max_size=3), JSON, max_size=6)
ROWS = st.lists(st.fixed_dictionaries({"index": st.integers(-1, 3) | SCALARS, "relevance_score": SCALARS}), max_size=4)


def ask(document: Any) -> Ask:
    return Ask(document, "m", False, "0123456789abcdef", 1_700_000_000)


@settings(deadline=None)
@given(document=OBJECTS)
def test_any_request_is_sent_or_refused_and_never_changed(document: Any) -> None:
    before = repr(copy.deepcopy(document))
    for codec in (SERVERS, OTHER):
        with suppress(Refusal):
            sent = codec.request(ask(document))
            assert set(sent.dropped) <= set(document)
            assert all(isinstance(each, str) for each in sent.document["documents"])
    assert repr(document) == before


@settings(deadline=None)
@given(document=OBJECTS | st.fixed_dictionaries({"results": ROWS}, optional={"meta": JSON, "usage": JSON, "id": SCALARS}))
def test_any_reply_is_read_or_garbled(document: Any) -> None:
    for codec in (SERVERS, OTHER):
        try:
            reply = codec.reply(document, ask({"query": "q", "documents": ["a", "b", "c"], "return_documents": True}))
        except Garbled:
            continue
        assert all(each["document"]["text"] == "abc"[each["index"]] for each in reply["results"])


@settings(deadline=None)
@given(status=st.integers(400, 599), body=st.binary(max_size=30) | JSON.map(lambda each: json.dumps(each).encode()))
def test_any_failing_body_is_read(status: int, body: bytes) -> None:
    failed = SERVERS.failed(status, body)
    assert isinstance(failed.message, str | None)
    assert isinstance(failed.code, str | None)


@settings(deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True), top=st.integers(1, 8), returned=st.booleans())
def test_all_providers_answers_say_the_same(scores: list[float], top: int, returned: bool) -> None:
    """A server that returns everything in any order, and one that picks and sorts by itself."""
    documents = [f"d{at}" for at in range(len(scores))]
    asked = ask({"query": "q", "documents": documents, "top_n": top, "return_documents": returned})
    rows = [{"index": at, "relevance_score": score} for at, score in enumerate(scores)]
    best = sorted(rows, key=lambda row: -row["relevance_score"])[:top]
    wanted = [{**row, "document": {"text": f"d{row['index']}"}} if returned else row for row in best]
    assert SERVERS.reply({"data": rows}, asked)["results"] == wanted
    assert SERVERS.reply({"results": rows}, asked)["results"] == wanted
    assert OTHER.reply({"id": "r", "results": best}, asked)["results"] == wanted


def test_there_is_no_stream() -> None:
    stream = SERVERS.stream(ask({}))
    assert stream.read(b"data: {}\n\n").kind is Kind.GARBAGE
    assert not stream.complete
