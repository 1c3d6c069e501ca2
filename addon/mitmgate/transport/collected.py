"""A reply's body that was collected to its end: decoding and reading it may take long, so a thread may do it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mitmproxy.proxy import commands

from mitmgate.dialects.reading import ReplyReader
from mitmgate.encoding import Decoder, DecodingError, TooLarge
from mitmgate.errors import Fault, FaultKind

TOO_LARGE_DECODED: Final = "the provider's reply is too large when it is decompressed"
NOT_ENCODED: Final = "the provider's reply is not encoded as it says"


@dataclass
class LargeReplyHook(commands.StartHook):
    """A collected reply is whole; call this in a thread. Not a flow: no UpdateHook."""

    read: Callable[[], None]


class Collected:
    """A collected reply's body, to be read in one go, by whatever thread."""

    body: bytes | None = None               # None: it was not read
    fault: Fault | None = None
    spoiled = False                         # its encoding is why

    def __init__(self, pieces: list[bytes], encoded: list[bytes], decoder: Decoder | None, reader: ReplyReader | None) -> None:
        """`pieces` come before what is still encoded. `reader`: of the JSON that it is to be; None: it may be anything."""
        self._pieces, self._encoded, self._decoder, self._reader = pieces, encoded, decoder, reader

    def read(self) -> None:
        """Set `body`, or `fault` too."""
        if self._decoder is not None:
            try:
                self._pieces.append(self._decoder.feed(b"".join(self._encoded)))
                self._decoder.finish()
            except TooLarge:
                self.fault = Fault(FaultKind.TOO_LARGE, TOO_LARGE_DECODED)
            except DecodingError:
                self.fault = Fault(FaultKind.GARBAGE, NOT_ENCODED)
            self.spoiled = self.fault is not None
        body, self._pieces, self._encoded = b"".join(self._pieces), [], []
        if self._reader is not None and self.fault is None:
            self.fault = self._reader.body(body)
            body = self._reader.answer(body) if self.fault is None else body
        self.body = body
