"""Golden cases: what a codec makes of one request, reply, stream or error, written from the provider's own documents.

They lie in `goldens/DIALECT/*.json`, each file a list of cases:

    name        says what is special about it
    source      where it is documented: an SDK's type, a page of the API reference
    way         whose codec and which of its functions: provider.request | provider.reply | provider.stream |
                provider.failed | client.request | client.reply | client.stream | client.error
    operation   `chat` if it is not said
    ask         fields of Ask or Asked that matter, beside the document
    given       what goes in; a provider's stream is a list of its events, as text
    expected    what comes out

What is expected of a provider's request: `path` and `document`, and `headers`, `dropped`, `effort` where there are any. Of its
stream: `chunks`, and `complete` if it is not whole. Where it is refused: `{"refusal": {"code", "param"}}`; where the provider
said nonsense: `{"garbled": true}`; where an event is an error: `{"fault": {"status", "code"}}` in place of further chunks.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from mitmgate.dialects.codec import Ask, Asked, Garbled
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Refusal

FOLDER = Path(__file__).parent / "goldens"
ID, CREATED = "0123456789abcdef", 1_700_000_000
Case = Mapping[str, Any]


def cases(dialect: str) -> Iterator[Case]:
    for file in sorted((FOLDER / dialect).glob("*.json")):
        yield from json.loads(file.read_text())


def codec(dialect: str, case: Case) -> Any:
    """`PROVIDERS` or `CLIENTS` of the dialect's `codec`, by operation."""
    side = case["way"].partition(".")[0]
    table = getattr(import_module(f"mitmgate.dialects.{dialect}.codec"), f"{side.upper()}S")
    return table[case.get("operation", "chat" if side == "provider" or dialect != "anthropic" else "messages")]


def ask_of(case: Case, document: Mapping[str, Any]) -> Ask:
    ask = Ask(document, document.get("model", "m"), bool(document.get("stream")), ID, CREATED)
    return replace(ask, **case.get("ask", {}))


def asked_of(case: Case, document: Mapping[str, Any]) -> Asked:
    asked = Asked(document, document.get("model", "m"), bool(document.get("stream")), ID, CREATED)
    return replace(asked, **case.get("ask", {}))


def outcome(dialect: str, case: Case) -> Any:
    """What the codec makes of the case, in the shape of its `expected`."""
    side, _, what = case["way"].partition(".")
    found = codec(dialect, case)
    try:
        return _WAYS[side, what](found, case)
    except Refusal as refusal:
        return {"refusal": {"code": refusal.code, "param": refusal.param}}
    except Garbled:
        return {"garbled": True}


def plain(value: Any) -> Any:
    """As JSON would have it: tuples are lists."""
    return json.loads(json.dumps(value))


def _provider_request(found: Any, case: Case) -> Any:
    sent = found.request(ask_of(case, case["given"]))
    shown = {"path": sent.path, "document": sent.document}
    if sent.headers:
        shown["headers"] = dict(sent.headers)
    if sent.dropped:
        shown["dropped"] = list(sent.dropped)
    if sent.effort is not None:
        shown["effort"] = sent.effort
    return plain(shown)


def _provider_reply(found: Any, case: Case) -> Any:
    return plain(found.reply(case["given"], ask_of(case, {"messages": []})))


def read(stream: Any, events: list[bytes]) -> Any:
    """What a ProviderStream makes of these events."""
    chunks: list[Any] = []
    for event in events:
        step = stream.read(event)
        if step.kind is Kind.ERROR:
            fault = stream.fault_of(event)
            return {"chunks": plain(chunks), "fault": {"status": fault.status, "code": fault.code}}
        if step.kind is Kind.GARBAGE:
            return {"chunks": plain(chunks), "garbled": True}
        chunks += step.chunks
    shown = {"chunks": plain(chunks)}
    return shown if stream.complete else {**shown, "complete": False}


def events_of(case: Case) -> list[bytes]:
    return [event.encode() for event in case["given"]]


def _provider_stream(found: Any, case: Case) -> Any:
    return read(found.stream(ask_of(case, {"messages": [], "stream": True})), events_of(case))


def _provider_failed(found: Any, case: Case) -> Any:
    body = case["given"]["body"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return found.failed(case["given"]["status"], raw)._asdict()


def _client_request(found: Any, case: Case) -> Any:
    return plain(found.request(asked_of(case, case["given"])))


def _client_reply(found: Any, case: Case) -> Any:
    return plain(found.reply(case["given"], asked_of(case, {})))


def _client_stream(found: Any, case: Case) -> Any:
    """Expected is a list of events as text. A chunk in `given` may be `{"broken": {code, message}}`, and is the end then."""
    stream = found.stream(asked_of(case, {"stream": True}))
    written = []
    for chunk in case["given"]:
        if "broken" in chunk:
            written.append(stream.broken(**chunk["broken"]).decode())
            break
        written.append(stream.write(chunk).decode())
    else:
        written.append(stream.end().decode())
    return [event for event in written if event]


def _client_error(found: Any, case: Case) -> Any:
    return json.loads(found.error(**case["given"]))


_WAYS = {
    ("provider", "request"): _provider_request,
    ("provider", "reply"): _provider_reply,
    ("provider", "stream"): _provider_stream,
    ("provider", "failed"): _provider_failed,
    ("client", "request"): _client_request,
    ("client", "reply"): _client_reply,
    ("client", "stream"): _client_stream,
    ("client", "error"): _client_error,
}
