"""Embeddings: unit vectors out of a text's hash (OpenAI API reference, "Embeddings").

The same text has the same direction whatever the model; fewer `dimensions` are the beginning of more, normalised again.
"""

import base64
import math
import sys
from array import array
from hashlib import shake_256
from typing import Final

import orjson

from mitmgate.providers.catalogue import SIMULATED
from mitmgate.simulator.answers import Answer, Whole
from mitmgate.simulator.asked import BadRequest, Document, prompts, text_field, whole

_DIMENSIONS: Final = 256
_MOST_DIMENSIONS: Final = 4096
_MOST_NUMBERS: Final = 2**21  # of one reply: some 40 MB of JSON


def embeddings(document: Document, events: int | None) -> Answer:
    """POST /v1/embeddings; `encoding_format` float, or base64 of little-endian float32. `events` plays no part."""
    model = text_field(document, "model", SIMULATED[1])
    texts = prompts(document.get("input"), "input")
    dimensions = whole(document, "dimensions", most=_MOST_DIMENSIONS) or _DIMENSIONS
    encoding = text_field(document, "encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise BadRequest("'encoding_format' must be float or base64.", param="encoding_format")
    if len(texts) * dimensions > _MOST_NUMBERS:
        raise BadRequest(f"The simulator makes at most {_MOST_NUMBERS} numbers at once; ask for less.", param="input")
    vectors = [vector(text, dimensions) for text, _ in texts]
    tokens = sum(size for _, size in texts)
    reply = {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": one.tolist() if encoding == "float" else _base64(one),
            }
            for index, one in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Whole(orjson.dumps(reply))


def vector(text: str, dimensions: int) -> array[float]:
    """`dimensions` float32 numbers of length 1."""
    raw = array("h", shake_256(text.encode()).digest(2 * dimensions))
    if sys.byteorder == "big":
        raw.byteswap()
    raw[0] = raw[0] or 1  # else one dimension could have no direction
    length = math.sqrt(math.sumprod(raw, raw))
    return array("f", [number / length for number in raw])


def _base64(numbers: array[float]) -> str:
    if sys.byteorder == "big":
        numbers = array("f", numbers)
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
