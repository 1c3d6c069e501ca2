"""What a refusal looks like to a client, in the dialect of the endpoint that it called."""

from mitmgate.dialects.registry import error_codec
from mitmgate.errors import Refusal, error_body


def refusal_body(refusal: Refusal, dialect: str, doc_url: str) -> bytes:
    """The body; OpenAI's shape, with a page about it, for every dialect that has none of its own."""
    if (codec := error_codec(dialect)) is not None:
        return codec.error(refusal.status, refusal.code, refusal.message)
    return error_body(refusal.code, refusal.message, param=refusal.param, doc_url=doc_url)
