"""Thinking blocks in a reasoning item's `encrypted_content`, which a Responses client keeps for us and sends back as it came.

Nothing is encrypted by us: a block's text is the summary that the client reads anyway, and what must stay secret in it
(Anthropic's `signature`, and `data` of redacted thinking) is encrypted by the provider that made it, who also checks it.
Source: openai.types.responses.ResponseReasoningItem.encrypted_content.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson

from mitmgate.errors import Refusal

_MARK: Final = "mitmgate.1."
_TEXTS: Final = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}


def sealed(blocks: Sequence[object]) -> str:
    """The blocks as a text that is opaque to the client."""
    return _MARK + base64.b64encode(orjson.dumps(blocks)).decode()


def unsealed(text: object, param: str) -> list[dict[str, Any]]:
    """The blocks; none for another provider's text, which is its private state. Raises Refusal for ours if it is damaged."""
    if not isinstance(text, str) or not text.startswith(_MARK):
        return []
    try:
        blocks = orjson.loads(base64.b64decode(text[len(_MARK) :], validate=True))
    except (binascii.Error, ValueError):
        blocks = None
    if not isinstance(blocks, list) or not all(is_block(each) for each in blocks):
        raise Refusal("invalid_request", "`encrypted_content` must be sent back as it came.", param=param)
    return blocks


def is_block(block: object) -> bool:
    """Whether this is a thinking block as the canonical form has them."""
    if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
        return False
    texts = _TEXTS.get(kind)
    return texts is not None and all(isinstance(block.get(name), str) for name in texts)
