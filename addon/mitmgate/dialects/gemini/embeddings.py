"""OpenAI's embeddings as batchEmbedContents (Gemini API reference, `models.batchEmbedContents`)."""

import base64
import struct
from typing import Any

from mitmgate.dialects.canonical import count
from mitmgate.dialects.codec import Ask, Document, Failed, Garbled, ProviderStream, Sent, Step
from mitmgate.dialects.gemini.failures import failed, fault_of
from mitmgate.dialects.gemini.words import method_path
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault, Refusal

_TOLD = frozenset({"model", "input", "dimensions", "encoding_format"})
_FORMATS = (None, "float", "base64")


class Embeddings:
    """One request for all texts. How the numbers are written is ours to do: Gemini knows floats alone."""

    def request(self, ask: Ask) -> Sent:
        """The texts, each a content of its own."""
        document = ask.document
        if document.get("encoding_format") not in _FORMATS:
            raise Refusal("invalid_request", "`encoding_format` must be float or base64.", param="encoding_format")
        path = method_path(ask.model, "batchEmbedContents")
        model = ask.model if ask.model.startswith(("models/", "tunedModels/")) else f"models/{ask.model}"
        asked: dict[str, Any] = {"model": model}
        if (size := document.get("dimensions")) is not None:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise Refusal("invalid_request", "`dimensions` must be a positive integer.", param="dimensions")
            asked["outputDimensionality"] = size
        requests = [{**asked, "content": {"parts": [{"text": text}]}} for text in _texts(document)]
        dropped = tuple(name for name, value in document.items() if name not in _TOLD and value is not None)
        return Sent(path, {"requests": requests}, dropped=dropped)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """OpenAI's list."""
        found = document.get("embeddings")
        if not isinstance(found, list) or not found:
            raise Garbled("the reply holds no embeddings")
        if isinstance(given := ask.document.get("input"), list) and len(given) != len(found):
            raise Garbled("the reply holds another number of embeddings")
        packed = ask.document.get("encoding_format") == "base64"
        listed = [{"object": "embedding", "index": at, "embedding": _vector(each, packed)} for at, each in enumerate(found)]
        told = document.get("usageMetadata")
        tokens = count(told.get("promptTokenCount")) if isinstance(told, dict) else 0
        return {
            "object": "list", "data": listed, "model": ask.model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }  # fmt: skip

    def stream(self, ask: Ask) -> ProviderStream:
        """Embeddings are never streamed."""
        return _NoStream()

    def failed(self, status: int, body: bytes) -> Failed:
        """Google's error."""
        return failed(body)


class _NoStream:
    """What a stream of embeddings would be: nothing that anybody sends."""

    complete = False

    def read(self, event: bytes) -> Step:
        """Nothing that is known."""
        return Step(Kind.GARBAGE)

    def fault_of(self, event: bytes) -> Fault:
        """Google's error, if it is one."""
        return fault_of(event)


def _texts(document: Document) -> list[str]:
    given = document.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refusal("invalid_request", "`input` must be a text or a list of texts.", param="input")
    if all(isinstance(each, (int, list)) for each in texts):
        raise Refusal("capability_missing", "Gemini embeds texts, not tokens.", param="input")
    if not all(isinstance(each, str) and each for each in texts):
        raise Refusal("invalid_request", "`input` must be a text or a list of texts, none of them empty.", param="input")
    return texts


def _vector(embedding: object, packed: bool) -> list[float] | str:
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if not isinstance(values, list) or not values or not all(type(each) in (float, int) for each in values):
        raise Garbled("an embedding holds no numbers")
    if not packed:
        return values
    try:
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    except (struct.error, OverflowError):
        raise Garbled("an embedding holds a number that is none") from None
