"""OpenAI's embeddings by POST /v2/embed (SDK, `v2/raw_client.py` (`embed`), `types/embed_by_type_response.py`).

Cohere must be told what the texts are for: `input_type`, which a client may say in its body; without it they are documents
to be searched. Vectors are asked for as floats always. OpenAI's SDKs ask for base64 unless they are told otherwise, which is
little-endian float32, and is made of them here: the byte order of Cohere's own base64 is documented nowhere.
"""

import base64
import struct
from typing import Any, Final

from mitmgate.dialects.codec import Ask, Document, Failed, Garbled, ProviderStream, Sent
from mitmgate.dialects.cohere.failures import failed
from mitmgate.dialects.cohere.usage import member, whole
from mitmgate.dialects.unstreamed import Unstreamed
from mitmgate.errors import Refusal

_OWN: Final = ("truncate", "max_tokens", "priority")
"""Cohere's own members, for a client that knows whom it speaks to: they go as they came."""

_TOLD: Final = frozenset({"model", "input", "dimensions", "encoding_format", "input_type", *_OWN})
_NUMBERS: Final = frozenset({int, float})


class CohereEmbeddings:
    """POST /v2/embed."""

    def request(self, ask: Ask) -> Sent:
        """The body. Raises Refusal."""
        asked = ask.document
        document: dict[str, Any] = {
            "model": ask.model, "texts": texts_of(asked), "input_type": _purpose(asked), "embedding_types": ["float"],
        }  # fmt: skip
        if (dimensions := _dimensions(asked)) is not None:
            document["output_dimension"] = dimensions
        _in_base64(asked)
        document.update((name, asked[name]) for name in _OWN if asked.get(name) is not None)
        dropped = tuple(name for name, value in asked.items() if value is not None and name not in _TOLD)
        return Sent("/v2/embed", document, dropped=dropped)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """OpenAI's list of embeddings. Raises Garbled."""
        vectors = member(document.get("embeddings"), "float")
        if not isinstance(vectors, list) or len(vectors) != len(texts_of(ask.document)):
            raise Garbled("the reply does not hold one embedding for each text")
        encode = _encoded if _in_base64(ask.document) else _checked
        data = [{"object": "embedding", "index": at, "embedding": encode(each)} for at, each in enumerate(vectors)]
        tokens = whole(member(document.get("meta"), "billed_units", "input_tokens"))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": ask.model, "usage": usage}

    def stream(self, ask: Ask) -> ProviderStream:
        """There is none."""
        return Unstreamed()

    def failed(self, status: int, body: bytes) -> Failed:
        """As for any of Cohere's operations."""
        return failed(status, body)


def texts_of(asked: Document) -> list[str]:
    """`input`, a text or a list of them. Raises Refusal."""
    given = asked.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refusal("invalid_request", "`input` must be a text or a non-empty array of texts.", param="input")
    for at, text in enumerate(texts):
        if isinstance(text, int | list):
            raise Refusal("capability_missing", "This provider embeds texts, not tokens.", param="input")
        if not isinstance(text, str):
            raise Refusal("invalid_request", "`input` must be a text or a non-empty array of texts.", param=f"input[{at}]")
    return texts


def _purpose(asked: Document) -> str:
    purpose = asked.get("input_type")
    if not isinstance(purpose, str | None):
        raise Refusal("invalid_request", "`input_type` must be a text.", param="input_type")
    return purpose or "search_document"


def _dimensions(asked: Document) -> int | None:
    dimensions = asked.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1):
        raise Refusal("invalid_request", "`dimensions` must be a positive integer.", param="dimensions")
    return dimensions


def _in_base64(asked: Document) -> bool:
    encoding = asked.get("encoding_format")
    if encoding is not None and encoding != "float" and encoding != "base64":
        raise Refusal("invalid_request", "`encoding_format` must be `float` or `base64`.", param="encoding_format")
    return bool(encoding == "base64")


def _checked(vector: object) -> list[float]:
    if not isinstance(vector, list) or not vector or not _NUMBERS.issuperset(map(type, vector)):
        raise Garbled("an embedding is no list of numbers")
    return vector


def _encoded(vector: object) -> str:
    numbers = _checked(vector)
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (struct.error, OverflowError):
        raise Garbled("an embedding holds a number that is no float32") from None
    return base64.b64encode(packed).decode("ascii")
