"""What vendors that speak OpenAI's dialect call otherwise, or refuse: a chat made fit for them.

The quirks and who says so stand in `providers.vendors`.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from mitmgate.errors import Refusal


class Adapted(NamedTuple):
    """The document, the same one if nothing had to change, and the members that could not be kept."""

    document: Mapping[str, Any]
    dropped: tuple[str, ...] = ()


def adapted(document: Mapping[str, Any], quirks: Collection[str]) -> Adapted:
    """A chat completion's request for a vendor with these quirks. Raises Refusal for what it cannot be asked."""
    choices = document.get("n")
    if "one_choice" in quirks and isinstance(choices, int) and choices > 1:
        raise Refusal("capability_missing", "This provider gives one choice.", param="n")
    dropped: list[str] = []
    for new, old in _RENAMED.items():       # such a quirk is called by the name that is understood
        if new in quirks and old in document:
            kept = _without(document, {old})
            document = kept if new in document else {**kept, new: document[old]}
    for quirk, names in _REFUSED.items():
        if quirk in quirks and not names.isdisjoint(document):
            said = (name for name, value in document.items() if name in names and value is not None)
            dropped += [name for name in said if name != "stream_options"]
            document = _without(document, names)
    messages = document.get("messages")
    if "no_names" in quirks and isinstance(messages, list) and any(isinstance(m, dict) and "name" in m for m in messages):
        document = {**document, "messages": [_without(m, {"name"}) if isinstance(m, dict) else m for m in messages]}
        dropped.append("name")
    return Adapted(document, tuple(dropped))


def _without(document: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


_RENAMED: Final[Mapping[str, str]] = {
    "max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens", "random_seed": "seed",
}  # fmt: skip
_REFUSED: Final[Mapping[str, frozenset[str]]] = {
    "no_logit_bias": frozenset({"logit_bias"}),
    "no_logprobs": frozenset({"logprobs", "top_logprobs"}),
    "no_stream_options": frozenset({"stream_options"}),
}
"""`stream_options` is no loss: such a vendor tells the usage anyway."""
