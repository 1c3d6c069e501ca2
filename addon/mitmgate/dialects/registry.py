"""Which reader reads which dialect. A dialect without a codec only passes through."""

from typing import Final

from mitmgate.dialects.opaque import OpaqueReader
from mitmgate.dialects.openai.reading import OpenAIBodyReader, OpenAIReader
from mitmgate.dialects.reading import ReplyReader

SPEAKS_OPENAI: Final = frozenset({"openai", "simulator"})
"""Dialects whose bodies are the canonical form: no codec is needed between them."""

_STREAMS: Final = frozenset({"chat", "completions", "responses", "speech", "transcription", "image"})
"""Operations of the OpenAI API whose event streams are documented; another's passes through unread."""


def reader(dialect: str, operation: str, choices: int = 1) -> ReplyReader:
    """A fresh reader for one attempt. `choices`: how many answers were asked for."""
    if dialect in SPEAKS_OPENAI and operation in _STREAMS:
        return OpenAIReader(choices)
    if dialect in SPEAKS_OPENAI:
        return OpenAIBodyReader()
    return OpaqueReader()
