"""Ranking by POST /v2/rerank (SDK, `v2/raw_client.py` (`rerank`), `v2/types/v2rerank_response.py`).

Version 2 takes texts only and never returns documents. It bills search units; tokens it tells only now and then.
"""

from typing import Any, Final

from mitmgate.dialects.codec import Ask, Document, Failed, ProviderStream, Sent
from mitmgate.dialects.cohere.failures import failed
from mitmgate.dialects.cohere.usage import member, whole
from mitmgate.dialects.ranking import MEMBERS, question_of, ranked, untold
from mitmgate.dialects.unstreamed import Unstreamed

_TOLD: Final = MEMBERS | {"priority"}       # which is Cohere's own


class CohereRerank:
    """POST /v2/rerank."""

    def request(self, ask: Ask) -> Sent:
        """The body. Raises Refusal."""
        question = question_of(ask.document)
        document: dict[str, Any] = {"model": ask.model, "query": question.query, "documents": question.documents}
        if question.top is not None:
            document["top_n"] = question.top
        if question.tokens_each is not None:
            document["max_tokens_per_doc"] = question.tokens_each
        if (priority := ask.document.get("priority")) is not None:
            document["priority"] = priority
        return Sent("/v2/rerank", document, dropped=untold(ask.document, _TOLD))

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """The canonical ranking. Raises Garbled."""
        return ranked(ask, id=document.get("id"), model=None, rows=document.get("results"), usage=_usage(document.get("meta")))

    def stream(self, ask: Ask) -> ProviderStream:
        """There is none."""
        return Unstreamed()

    def failed(self, status: int, body: bytes) -> Failed:
        """As for any of Cohere's operations."""
        return failed(status, body)


def _usage(meta: object) -> dict[str, int]:
    usage = {}
    if (tokens := member(meta, "tokens", "input_tokens")) is not None:
        usage["total_tokens"] = whole(tokens) + whole(member(meta, "tokens", "output_tokens"))
    if (units := member(meta, "billed_units", "search_units")) is not None:
        usage["search_units"] = whole(units)
    return usage
