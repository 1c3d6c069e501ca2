"""JSON schemas as structured outputs take them.

Source: platform.claude.com, "Structured outputs" (JSON Schema limitations); anthropic.lib._parse._transform says what the SDK
makes of the rest: what a grammar cannot hold the model to is told in words.
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.anthropic.words import dumped

_PLAIN: Final = frozenset({"type", "enum", "const", "title", "description", "required", "default", "$ref"})
_MAPS: Final = frozenset({"properties", "$defs", "definitions"})
_LISTS: Final[Mapping[str, str]] = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_OPEN: Final = frozenset({"patternProperties", "propertyNames", "unevaluatedProperties", "prefixItems", "not", "if"})
_FORMATS: Final = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
_IGNORED: Final = frozenset({"$schema", "$id", "$comment", "additionalProperties"})
_DEEPEST: Final = 64


def closed(schema: object, depth: int = 0) -> dict[str, Any] | None:
    """The schema with each object closed; None if it cannot be said: keys that are free, or too deep."""
    if not isinstance(schema, dict) or depth > _DEEPEST or not _OPEN.isdisjoint(schema):
        return None
    if schema.get("additionalProperties") not in (None, False):
        return None
    said: dict[str, Any] = {}
    told: list[str] = []
    for key, value in schema.items():
        if key in _PLAIN or (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1)):
            said[key] = value
        elif key in _MAPS or key in _LISTS or key == "items":
            inner = _inner(key, value, depth + 1)
            if inner is None:
                return None
            said[_LISTS.get(key, key)] = inner
        elif key not in _IGNORED and not _tell(key, value, told):
            return None
    if _is_object(schema):
        said["additionalProperties"] = False
    if told:
        words = f"{{{', '.join(told)}}}"
        before = said.get("description")
        said["description"] = f"{before}\n\n{words}" if isinstance(before, str) else words
    return said


def _tell(key: str, value: object, told: list[str]) -> bool:
    try:
        told.append(f"{key}: {dumped(value)}")
    except ValueError:                      # too deep
        return False
    return True


def _inner(key: str, value: object, depth: int) -> object:
    if key == "items":
        return closed(value, depth)
    if key in _LISTS:
        variants = [closed(each, depth) for each in value] if isinstance(value, list) else [None]
        return None if None in variants else variants
    if not isinstance(value, dict):
        return None
    named = {name: closed(each, depth) for name, each in value.items()}
    return None if None in named.values() else named


def _is_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return kind == "object" or "properties" in schema or (isinstance(kind, list) and "object" in kind)
