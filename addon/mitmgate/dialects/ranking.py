"""The canonical form of ranking, for which OpenAI has none.

    request   {model, query, documents: [text | {text}], top_n, return_documents, max_tokens_per_doc}
    reply     {id, object: "list", model, results: [{index, relevance_score, document?: {text}}],
               usage: {total_tokens?, search_units?}}

Results come best first, no more of them than `top_n`. The documents stay with the gateway: those that `return_documents`
wants are put back from the request, and nobody sends them over the wire a second time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from mitmgate.dialects.codec import Ask, Document, Garbled
from mitmgate.errors import Refusal

MEMBERS: Final = frozenset({"model", "query", "documents", "top_n", "return_documents", "max_tokens_per_doc"})


class Question(NamedTuple):
    """What is to be ranked."""

    query: str
    documents: list[str]
    top: int | None                         # None: all of them
    returned: bool                          # whether the results are to hold their documents
    tokens_each: int | None                 # what is longer is cut


def question_of(document: Document) -> Question:
    """The canonical request, checked. Raises Refusal."""
    query = document.get("query")
    if not isinstance(query, str) or not query.strip():
        raise Refusal("invalid_request", "`query` must be a text.", param="query")
    documents = document.get("documents")
    if not isinstance(documents, list) or not documents:
        raise Refusal("invalid_request", "`documents` must be a non-empty array.", param="documents")
    returned = document.get("return_documents")
    if returned is not None and not isinstance(returned, bool):
        raise Refusal("invalid_request", "`return_documents` must be true or false.", param="return_documents")
    texts = [_text(each, index) for index, each in enumerate(documents)]
    return Question(query, texts, _count(document, "top_n"), returned is True, _count(document, "max_tokens_per_doc"))


def untold(document: Document, told: frozenset[str]) -> tuple[str, ...]:
    """Members of the request that are not among these."""
    return tuple(name for name, value in document.items() if value is not None and name not in told)


def ranked(ask: Ask, *, id: object, model: object, rows: object, usage: Mapping[str, int]) -> dict[str, Any]:
    """The canonical reply. `rows` are the provider's: objects with an index and a relevance_score. Raises Garbled."""
    if not isinstance(rows, list):
        raise Garbled("the reply holds no results")
    question = question_of(ask.document)
    best = sorted((_row(each, len(question.documents)) for each in rows), key=_score, reverse=True)[: question.top]
    return {
        "id": id if isinstance(id, str) and id else f"rerank-{ask.id}",
        "object": "list",
        "model": model if isinstance(model, str) and model else ask.model,
        "results": _with_documents(best, question.documents) if question.returned else best,
        "usage": dict(usage),
    }


def _with_documents(rows: Iterable[dict[str, Any]], documents: list[str]) -> list[dict[str, Any]]:
    return [{**row, "document": {"text": documents[row["index"]]}} for row in rows]


def _row(row: object, documents: int) -> dict[str, Any]:
    index = row.get("index") if isinstance(row, dict) else None
    score = row.get("relevance_score") if isinstance(row, dict) else None
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < documents:
        raise Garbled("a result has the index of no document")
    if not isinstance(score, int | float) or isinstance(score, bool):
        raise Garbled("a result has no relevance_score")
    return {"index": index, "relevance_score": score}


def _score(row: dict[str, Any]) -> float:
    score: float = row["relevance_score"]
    return score


def _text(document: object, index: int) -> str:
    text = document.get("text") if isinstance(document, dict) else document
    if not isinstance(text, str):
        message = "A document must be a text, or an object with a `text`."
        raise Refusal("invalid_request", message, param=f"documents[{index}]")
    return text


def _count(document: Document, name: str) -> int | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise Refusal("invalid_request", f"`{name}` must be a positive integer.", param=name)
    return value
