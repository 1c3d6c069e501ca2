"""Servers that rank at POST /v1/rerank; the base URL has the /v1, as it has for these servers' other operations.

Sources: Jina's OpenAPI document (`/v1/rerank`), Voyage's API reference ("Rerankers"), vLLM's scoring protocol
(`RerankRequest`, `RerankResponse`).

They agree on `model`, `query`, `documents` and `return_documents`, but call the limit `top_n` (Jina, vLLM) or `top_k` (Voyage,
which answers 400 to any member that it does not know). So none is told it: each ranks, and bills, every document in any case,
and the best are picked from its answer here. Results come as `results`, or as `data` (Voyage).
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import count
from mitmgate.dialects.codec import Ask, Document, Failed, ProviderCodec, ProviderStream, Sent
from mitmgate.dialects.ranking import MEMBERS, question_of, ranked, untold
from mitmgate.dialects.unstreamed import Unstreamed

_TOLD: Final = MEMBERS - {"max_tokens_per_doc"}
_CODES: Final[Mapping[int, str]] = {
    401: "invalid_api_key", 402: "insufficient_quota", 404: "model_not_found", 429: "rate_limit_exceeded",
}  # fmt: skip


class Ranker:
    """A server that ranks at /v1/rerank."""

    def request(self, ask: Ask) -> Sent:
        """The body of POST /v1/rerank; documents never come back, the gateway has them."""
        question = question_of(ask.document)
        document = {
            "model": ask.model, "query": question.query, "documents": question.documents, "return_documents": False,
        }  # fmt: skip
        return Sent("/rerank", document, dropped=untold(ask.document, _TOLD))

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """The canonical ranking, of `results` or of `data`. Raises Garbled."""
        rows = document.get("results", document.get("data"))
        return ranked(ask, id=document.get("id"), model=document.get("model"), rows=rows, usage=_usage(document))

    def stream(self, ask: Ask) -> ProviderStream:
        """There is none."""
        return Unstreamed()

    def failed(self, status: int, body: bytes) -> Failed:
        """The code by the status, unless the server names one."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        error = document.get("error") if isinstance(document, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        return Failed(code if isinstance(code, str) and code else _CODES.get(status), _message(document))


def _usage(document: Document) -> dict[str, int]:
    usage = document.get("usage")
    return {"total_tokens": count(usage.get("total_tokens"))} if isinstance(usage, dict) and "total_tokens" in usage else {}


def _message(document: object) -> str | None:
    """`detail` (Voyage, Jina; FastAPI's is a list of {msg}), `error.message` (vLLM), `error` or `message`."""
    while isinstance(document, dict | list):
        if isinstance(document, list):
            document = document[0] if document else None
            continue
        document = next((document[name] for name in ("detail", "error", "message", "msg") if document.get(name)), None)
    return document if isinstance(document, str) else None


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {"rerank": Ranker()}
