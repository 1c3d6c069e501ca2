"""AWS Bedrock's Converse, as a provider's dialect."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.bedrock.faults import failed
from mitmgate.dialects.bedrock.frames import FrameSplitter
from mitmgate.dialects.bedrock.reply import completion_of_reply
from mitmgate.dialects.bedrock.request import sent
from mitmgate.dialects.bedrock.stream import ConverseReader
from mitmgate.dialects.codec import Ask, Document, Failed, ProviderCodec, ProviderStream, Sent


class BedrockChat:
    """Converse and ConverseStream. Its streams are frames, not server-sent events."""

    stream_media = "application/vnd.amazon.eventstream"

    def splitter(self) -> FrameSplitter:
        """A fresh one for a reply's frames."""
        return FrameSplitter()

    def request(self, ask: Ask) -> Sent:
        """Raises Refusal."""
        return sent(ask)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """A chat.completion object. Raises Garbled."""
        return completion_of_reply(document, ask)

    def stream(self, ask: Ask) -> ProviderStream:
        """A fresh reader of frames."""
        return ConverseReader(ask)

    def failed(self, status: int, body: bytes) -> Failed:
        """What a failing reply's body says."""
        return failed(status, body)


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {"chat": BedrockChat()}
