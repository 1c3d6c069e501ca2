"""Moderations (OpenAI API reference, "Moderations"): a category is flagged where the text names it."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.simulator.answers import DEFAULT_MODEL, Answer, Whole, digest
from mitmgate.simulator.asked import MOST_TEXTS, BadRequest, Document, text_field, text_of

_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
_NAMED: Final = 0.98
_OTHER: Final = 0.0001


def moderations(document: Document, events: int | None) -> Answer:
    """POST /v1/moderations. `events` has no meaning here."""
    model = text_field(document, "model", DEFAULT_MODEL)
    texts = _texts(document.get("input"))
    reply = {
        "id": f"modr-{digest('moderations', model, *texts).hex()[:32]}",
        "model": model,
        "results": [_result(text.lower()) for text in texts],
    }
    return Whole(orjson.dumps(reply))


def _texts(value: Any) -> list[str]:
    """A text, several, or content parts, which are judged together."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and 0 < len(value) <= MOST_TEXTS:
        if all(isinstance(one, str) for one in value):
            return value
        if all(isinstance(one, dict) for one in value):
            return [text_of(value, "input")]
    raise BadRequest(
        f"'input' must be a string, an array of 1 to {MOST_TEXTS} strings, or an array of content parts.", param="input"
    )


def _result(text: str) -> Mapping[str, Any]:
    named = {category: category in text for category in _CATEGORIES}
    return {
        "flagged": any(named.values()),
        "categories": named,
        "category_scores": {category: _NAMED if flagged else _OTHER for category, flagged in named.items()},
        "category_applied_input_types": {category: ["text"] for category in _CATEGORIES},
    }
