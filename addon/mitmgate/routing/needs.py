"""What a request needs of the model that serves it, and what a model lacks. Pure.

The size of the prompt is counted only where it can matter. Every token has at least a byte, so a prompt of fewer bytes than
the smallest context window in question fits them all. Beyond that it is counted piece by piece, so that the caller can let
others have their turn, and only until it is larger than the largest of these windows. A body of 60 MiB of text is done with
after some 0.5 s in steps of 1 to 3 ms; images and sounds are not text, and cost nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from mitmgate.errors import Refusal
from mitmgate.providers.capabilities import TIERS, Tier, Traits
from mitmgate.providers.tokens import at_most, count, pieces, tokenizer

CHATS: Final = frozenset({"chat", "responses", "messages"})
"""Operations whose canonical form is a chat."""

_PER_MESSAGE: Final = 4                     # tokens around a message, its role counted
_PER_REPLY: Final = 3                       # tokens that begin the answer
_PER_IMAGE: Final = 85                      # the least that an image costs (OpenAI, low detail)

_LISTED: Final = 8                          # targets that a message names
_LONGEST_KEY: Final = 100                   # characters of a target's name in it
_LONGEST: Final = 1_200                     # characters of a message


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request needs. `at_most` is a bound of the prompt's tokens; `prompt` is their number once they are counted."""

    tools: bool = False
    json: bool = False
    json_schema: bool = False
    vision: bool = False
    audio: bool = False
    reasoning: Tier = "none"
    output: int = 0                         # tokens that the answer may have
    at_most: int = 0
    prompt: int | None = None               # None: not counted
    more: bool = False                      # counting stopped there: it is larger

    @property
    def window(self) -> int | None:
        """Tokens of prompt and answer; None: not counted."""
        return None if self.prompt is None else self.prompt + self.output


NOTHING: Final = Needs()


def needs_of(document: Mapping[str, Any], operation: str) -> Needs:
    """Of a request in its canonical form. Raises Refusal for a `min_reasoning_level` that is none.

    What else is wrong with the request is for others to say: here it needs nothing.
    """
    if operation == "completions":
        text, ids = _prompt(document)
        return Needs(output=_output(document), at_most=max(at_most(text), ids))
    if operation not in CHATS:
        return NOTHING
    form = document.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    kinds = {str(part.get("type")) for message in _messages(document) for part in _parts(message)}
    return Needs(
        tools=_calls_tools(document),
        json=kind == "json_object",
        json_schema=kind == "json_schema",
        vision="image_url" in kinds,
        audio="input_audio" in kinds,
        reasoning=_tier(document.get("min_reasoning_level")),
        output=_output(document),
        at_most=sum(map(at_most, _texts(document))) + _around(document),
    )


def matters(needs: Needs, windows: Iterable[int | None]) -> bool:
    """Whether the prompt must be counted, and can be, to tell which of these windows it fits; None: one that nobody knows."""
    doubt = any(window is not None and needs.at_most + needs.output > window for window in windows)
    return doubt and tokenizer() is not None


def counting(document: Mapping[str, Any], operation: str, needs: Needs, windows: Iterable[int | None]) -> Iterator[Needs]:
    """The needs with the tokens so far, after each piece of text: the last one is right. The caller waits in between."""
    most = max((window for window in windows if window is not None), default=0) - needs.output
    if operation in CHATS:
        tokens, least, texts = _around(document), 0, _texts(document)
    else:
        text, least = _prompt(document)
        tokens, texts = 0, iter((text,))
    for piece in (piece for text in texts for piece in pieces(text)):
        if tokens > most:
            yield replace(needs, prompt=tokens, more=True)
            return
        tokens += count(piece)
        yield replace(needs, prompt=tokens)
    yield replace(needs, prompt=max(tokens, least))


def lacking(needs: Needs, traits: Traits) -> tuple[str, ...]:
    """What a model lacks of what is needed, each as the end of a sentence. What is not known is not lacking."""
    found = [words for name, words in _LACKS.items() if getattr(needs, name) and getattr(traits, name) is False]
    tier = traits.reasoning
    if tier is not None and TIERS.index(tier) < TIERS.index(needs.reasoning):
        found.append(f"its reasoning tier is {tier}, below {needs.reasoning}")
    window = needs.window
    if window is not None and traits.context_window is not None and traits.context_window < window:
        found.append(
            f"its context window of {traits.context_window} tokens is smaller than "
            f"the {_amount(needs)} that the request needs"
        )
    return tuple(found)


def missing(needs: Needs, lacks: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The message for a request that no target can serve: what it asks for, and what each target lacks."""
    asked = [words for name, words in _ASKED.items() if getattr(needs, name)]
    if needs.reasoning != "none":
        asked.append(f"a reasoning tier of at least {needs.reasoning}")
    if needs.window is not None:
        asked.append(f"a context window of {_amount(needs)} tokens")
    told = [f"{key[:_LONGEST_KEY]} {_joined(words)}" for key, words in lacks[:_LISTED]]
    more = f"; and {len(lacks) - _LISTED} more" if len(lacks) > _LISTED else ""
    message = f"No target can do what this request needs ({', '.join(asked)}): {'; '.join(told)}{more}"
    return f"{message}." if len(message) < _LONGEST else f"{message[: _LONGEST - 1]}…"


_LACKS: Final[Mapping[str, str]] = {
    "tools": "has no tool calling",
    "json": "has no JSON mode",
    "json_schema": "cannot answer by a JSON schema",
    "vision": "has no vision",
    "audio": "takes no audio",
}
_ASKED: Final[Mapping[str, str]] = {
    "tools": "tool calling",
    "json": "JSON mode",
    "json_schema": "an answer by a JSON schema",
    "vision": "vision",
    "audio": "audio input",
}


def _amount(needs: Needs) -> str:
    return f"{needs.window} or more" if needs.more else str(needs.window)


def _joined(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def _calls_tools(document: Mapping[str, Any]) -> bool:
    """Tools that may be called; `functions` is what OpenAI called them first."""
    if document.get("tools") and document.get("tool_choice") != "none":
        return True
    return bool(document.get("functions")) and document.get("function_call") != "none"


def _tier(level: object) -> Tier:
    if level is None:
        return "none"
    found = next((tier for tier in TIERS if tier == level), None)
    if found is None:
        raise Refusal(
            "invalid_request", "`min_reasoning_level` must be `low`, `medium` or `high`.", param="min_reasoning_level"
        )
    return found


def _output(document: Mapping[str, Any]) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = document.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _messages(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    messages = document.get("messages")
    return (each for each in messages if isinstance(each, Mapping)) if isinstance(messages, list) else iter(())


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    return (each for each in content if isinstance(each, Mapping)) if isinstance(content, list) else iter(())


def _around(document: Mapping[str, Any]) -> int:
    """Tokens beside the texts'."""
    messages = list(_messages(document))
    images = sum(1 for message in messages for part in _parts(message) if part.get("type") == "image_url")
    return _PER_REPLY + _PER_MESSAGE * len(messages) + _PER_IMAGE * images


def _texts(document: Mapping[str, Any]) -> Iterator[str]:
    """What a chat's prompt is made of. Tools and schemas stand in it in a form that only the vendor knows: as JSON here."""
    for message in _messages(document):
        yield from _texts_of(message)
    for name in ("tools", "functions"):
        if document.get(name):
            yield _written(document[name])
    form = document.get("response_format")
    if isinstance(form, Mapping) and form.get("json_schema"):
        yield _written(form["json_schema"])


def _texts_of(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _parts(message):
        if isinstance(text := part.get("text"), str):
            yield text
    if isinstance(name := message.get("name"), str):
        yield name
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            yield from (text for key in ("name", "arguments") if isinstance(text := function.get(key), str))


def _prompt(document: Mapping[str, Any]) -> tuple[str, int]:
    """The longest of an old completion's prompts, each of which is served by itself: as text, and as numbers of tokens."""
    prompt = document.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    texts = [each for each in prompts if isinstance(each, str)]
    ids = [len(each) for each in prompts if isinstance(each, list)]
    alone = sum(1 for each in prompts if isinstance(each, int))     # a list of numbers is one prompt
    return max(texts, key=len, default=""), max(ids, default=alone)


def _written(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:                       # an integer beyond 64 bits
        return repr(value)
