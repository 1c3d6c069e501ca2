"""The client's side of OpenAI's Responses API, before a provider that speaks something else."""

from typing import Any, Final

from mitmgate.dialects.codec import Asked, ClientCodec, ClientStream, Document
from mitmgate.dialects.openai.responses_reply import error_body, response_of
from mitmgate.dialects.openai.responses_request import chat_of
from mitmgate.dialects.openai.responses_stream import ResponsesStream


class ResponsesClient:
    """A client that calls POST /v1/responses."""

    media: Final = "text/event-stream"

    def request(self, asked: Asked) -> dict[str, Any]:
        """A chat completion's. Raises Refusal."""
        return chat_of(asked)

    def reply(self, reply: Document, asked: Asked) -> dict[str, Any]:
        """A response. Raises Garbled."""
        return response_of(reply, asked)

    def stream(self, asked: Asked) -> ClientStream:
        """A fresh writer."""
        return ResponsesStream(asked)

    def error(self, status: int, code: str, message: str) -> bytes:
        """OpenAI's error object."""
        return error_body(status, code, message)


RESPONSES: Final[ClientCodec] = ResponsesClient()
