"""What the simulator says, and how it counts: everything follows from the request alone.

A token is a word between white space. A prompt's tokens are the words of its messages' texts; an answer's are the
words of what was sent, JSON and tool arguments included. A stream sends one token per content event.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson

from mitmgate.simulator.asked import BadRequest, Message
from mitmgate.simulator.faults import MOST_EVENTS

CREATED: Final = 1_700_000_000
"""`created` of everything, Unix seconds: time is not part of the request."""

DEFAULT_MODEL: Final = "sim-1"
DONE: Final = b"data: [DONE]\n\n"

_PIECE: Final = re.compile(r"\s*\S+")
_WORDS: Final = (
    "amber", "brook", "cedar", "delta", "ember", "field", "grove", "harbour", "island", "jasper", "kettle", "lantern",
    "meadow", "north", "orchard", "pebble", "quarry", "river", "stone", "timber", "under", "valley", "willow", "zephyr",
)  # fmt: skip
_FILLER: Final = 8  # words that follow the sentences
_USUAL: Final = 32  # words of an answer whose length nobody asked for, at most
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error", 403: "permission_error", 429: "rate_limit_error",
}  # fmt: skip
_CODES: Final[Mapping[int, str]] = {
    401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 500: "server_error",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Whole:
    """A reply in one piece: JSON."""

    body: bytes
    status: int = 200


@dataclass(frozen=True, slots=True)
class Streamed:
    """A reply as server-sent events: what comes before the content, the content one event at a time, what ends it."""

    opening: bytes
    content: Iterator[bytes]
    closing: bytes
    error: Callable[[int, str | None], bytes]   # (content events sent, code) -> the event that breaks it off


type Answer = Whole | Streamed


@dataclass(frozen=True, slots=True)
class Completion:
    """One choice: its text in tokens, the white space before a token being part of it."""

    pieces: Sequence[str]
    finish: str                                 # stop | length

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def digest(*parts: str) -> bytes:
    """32 bytes that stand for these texts in this order."""
    state = blake2b(digest_size=32)
    for part in parts:
        encoded = part.encode()
        state.update(b"%d:" % len(encoded))
        state.update(encoded)
    return state.digest()


def seed_of(operation: str, model: str, conversation: Sequence[Message]) -> bytes:
    """What an answer grows from. Not from `stream`: a streamed answer says the same as a whole one."""
    return digest(operation, model, *(part for message in conversation for part in (message.role, message.text)))


def count(text: str) -> int:
    """The tokens of a text."""
    return len(text.split())


def pieces(text: str) -> list[str]:
    """The tokens of a text that does not end in white space; joined they are the text again."""
    return _PIECE.findall(text)


def sentence(model: str, conversation: Sequence[Message], seed: bytes, index: int, events: int | None) -> str:
    """The text of choice `index`, of exactly `events` tokens if that is given. Repeats nothing that the user wrote."""
    opening = (
        f"Simulated answer of {model} to {len(conversation)} message(s). "
        f"The last one has {count(conversation[-1].text)} word(s), and here are some more:"
    )
    spoken = pieces(opening)
    wanted = len(spoken) + _FILLER if events is None else events
    for place in range(wanted - len(spoken)):
        turn, at = divmod(place, len(seed))
        spoken.append(f" {_WORDS[(seed[at] + index + 7 * turn) % len(_WORDS)]}")
    return "".join(spoken[:wanted])


def complete(text: str, stop: Sequence[str], most: int | None) -> Completion:
    """The text up to the first stop sequence, and no longer than `most` tokens."""
    end = min((at for at in map(text.find, stop) if at >= 0), default=len(text))
    tokens = pieces(text[:end].rstrip())
    if most is not None and len(tokens) > most:
        return Completion(tokens[:most], "length")
    return Completion(tokens, "stop")


def bounded(choices: int, events: int | None) -> None:
    """Refuses what would not fit into memory."""
    if choices * (events or _USUAL) > MOST_EVENTS:
        raise BadRequest(f"The simulator makes at most {MOST_EVENTS} words, all choices together.", param="n")


def usage(prompt: int, completion: int) -> dict[str, Any]:
    """The usage object of chat and legacy completions."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def error_of(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object; without a `code`, the usual one of the status."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if code == "insufficient_quota":
        kind = "insufficient_quota"  # OpenAI sends the code as the type too
    return {"error": {"message": message, "type": kind, "param": param, "code": code or _CODES.get(status)}}


def error_event(sent: int, code: str | None) -> bytes:
    """The event that breaks off a stream of chat or legacy completions."""
    failure = error_of(500, f"Simulated error after {sent} content event(s).", code)
    return b"data: " + orjson.dumps(failure) + b"\n\n"


class Chunks:
    """The events of one chat or legacy completion: the envelope is rendered once, each event adds its choice."""

    __slots__ = ("_end", "_start")

    def __init__(self, envelope: Mapping[str, Any], *, with_usage: bool) -> None:
        self._start = b"data: " + orjson.dumps(envelope)[:-1] + b',"choices":['
        self._end = b'],"usage":null}\n\n' if with_usage else b"]}\n\n"

    def choice(self, choice: Mapping[str, Any]) -> bytes:
        """One event."""
        return self._start + orjson.dumps(choice) + self._end

    def usage(self, tokens: Mapping[str, Any]) -> bytes:
        """The event after the last choice: no choices, but the usage of them all."""
        return self._start + b'],"usage":' + orjson.dumps(tokens) + b"}\n\n"
