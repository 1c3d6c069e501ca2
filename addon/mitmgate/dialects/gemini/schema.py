"""Gemini's Schema, a subset of OpenAPI 3.0, as a JSON schema (google-genai `types.py`: Schema, Type)."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.gemini.words import DEEPEST, worded
from mitmgate.errors import Refusal

_COUNTS: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_MAPS: Final[Mapping[str, str]] = {"properties": "properties", "defs": "$defs", "$defs": "$defs"}
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_ONES: Final = frozenset({"items", "additionalProperties", "not"})


def json_schema(schema: object, param: str, depth: int = 0) -> Any:
    """The JSON schema; what is none of Schema's members stays as it is. Raises Refusal."""
    if isinstance(schema, bool) and depth:
        return schema
    if not isinstance(schema, dict) or depth > DEEPEST:
        raise Refusal("invalid_request", "A schema must be an object, not too deep.", param=param)
    found: dict[str, Any] = {}
    for name, value in worded(schema).items():
        if name == "nullable" or value is None:
            continue
        _add(found, name, value, param, depth)
    return _nullable(found) if worded(schema).get("nullable") is True else found


def _add(found: dict[str, Any], name: str, value: Any, param: str, depth: int) -> None:
    if name == "type":
        if (word := _type(value)) is not None:
            found["type"] = word
    elif name in _MAPS and isinstance(value, dict):
        found[_MAPS[name]] = {each: json_schema(one, param, depth + 1) for each, one in value.items()}
    elif name in _LISTS and isinstance(value, list):
        found[name] = [json_schema(one, param, depth + 1) for one in value]
    elif name in _ONES and isinstance(value, dict):
        found[name] = json_schema(value, param, depth + 1)
    elif name in _COUNTS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        found[name] = int(value)            # an int64 is a text in protocol buffers' JSON
    elif name == "ref" and isinstance(value, str):
        found["$ref"] = "#/$defs/" + value.removeprefix("#/defs/").removeprefix("#/$defs/")
    elif name == "example":
        found["examples"] = [value]
    else:
        found[name] = value


def _type(value: object) -> object:
    if isinstance(value, str):
        return None if value == "TYPE_UNSPECIFIED" else value.lower()
    return [each.lower() if isinstance(each, str) else each for each in value] if isinstance(value, list) else value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, or null."""
    kind = schema.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [schema, {"type": "null"}]} if schema else schema
    allowed = {"enum": [*schema["enum"], None]} if isinstance(schema.get("enum"), list) else {}
    return {**schema, "type": [kind, "null"], **allowed}
