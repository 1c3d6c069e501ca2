"""A deterministic instance of a JSON schema, for tool arguments and structured output.

Honoured: type, properties, required, items, prefixItems, minItems, maxItems, enum, const, anyOf, oneOf, allOf, local
$ref, format, minLength, maxLength, minimum, maximum, their exclusive forms and multipleOf. Nothing else is, patterns
least of all: to run a caller's pattern could take for ever.
Optional properties are filled in near the root and left out deeper down, so that a recursive schema ends.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

from mitmgate.simulator.asked import BadRequest

_GENEROUS: Final = 4            # levels that are filled in beyond what the schema requires
_DEEPEST: Final = 64
_MOST_VALUES: Final = 2_000     # a schema that branches at every level must not grow without bound
_LONGEST: Final = 10_000        # characters of one string
_UNBOUNDED: Final = 2**53       # numbers beyond it are not exact in JSON
_FINEST: Final = 1e-6
_INDEX: Final = re.compile("[0-9]{1,5}")

_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2023-11-14T22:13:20Z",
    "date": "2023-11-14",
    "time": "22:13:20Z",
    "duration": "PT1H",
    "email": "simulated@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance_text(schema: Any, param: str) -> str:
    """The instance as JSON text, with a space after each comma and colon, so that it has several tokens.

    `param` names the field that held the schema, for the 400 of a schema that cannot be read.
    """
    return json.dumps(_Growth(schema, param).value(schema, 0), ensure_ascii=False)


class _Growth:
    """One instance while it grows."""

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._values = 0

    def value(self, schema: Any, depth: int) -> Any:
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise self._bad(f"needs more than {_DEEPEST} levels or {_MOST_VALUES} values")
        if isinstance(schema, bool):
            return "simulated"
        if not isinstance(schema, dict):
            raise self._bad("holds something that is neither an object nor a boolean where a schema belongs")
        if "const" in schema:
            return schema["const"]
        if isinstance(options := schema.get("enum"), list) and options:
            return options[0]
        if "$ref" in schema:
            return self.value(self._followed(schema["$ref"]), depth + 1)
        for name in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(name), list) and branches:
                rest = {key: value for key, value in schema.items() if key != name}
                return self.value(self._joined([rest, self._branch(branches, depth)]), depth + 1)
        if isinstance(parts := schema.get("allOf"), list) and parts:
            rest = {key: value for key, value in schema.items() if key != "allOf"}
            return self.value(self._joined([rest, *parts]), depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return self._number(schema, whole=True)
            case "number":
                return self._number(schema, whole=False)
            case "boolean":
                return True
            case "null":
                return None
            case "string":
                return self._string(schema)
        raise self._bad("names a type that JSON Schema does not have")

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise self._bad("has properties that are no object, or a required that is no array")
        needed = dict.fromkeys(name for name in required if isinstance(name, str))  # a dict keeps their order
        wanted = [name for name in properties if depth < _GENEROUS or name in needed]
        wanted += [name for name in needed if name not in properties]
        return {name: self.value(properties.get(name, True), depth + 1) for name in wanted}

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        if not isinstance(first, list):
            raise self._bad("has a prefixItems that is no array")
        least, most = self._bound(schema, "minItems", 0), self._bound(schema, "maxItems", _MOST_VALUES)
        size = int(min(max(least, len(first), 1 if depth < _GENEROUS else 0), max(most, least)))
        if size > _MOST_VALUES:
            raise self._bad(f"asks for more than {_MOST_VALUES} values")
        rest = schema.get("items", True)
        return [self.value(first[place] if place < len(first) else rest, depth + 1) for place in range(size)]

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        least = self._bound(schema, "minimum", -_UNBOUNDED)
        most = self._bound(schema, "maximum", _UNBOUNDED)
        above = self._bound(schema, "exclusiveMinimum", -math.inf)
        below = self._bound(schema, "exclusiveMaximum", math.inf)
        step = self._bound(schema, "multipleOf", 1) if whole or "multipleOf" in schema else 0
        if not step:
            return _between(max(least, above), min(most, below))
        if whole:
            step = Fraction(step).limit_denominator(10**6).numerator  # 2.5 is met by integers that are multiples of 5
        lowest = math.ceil(max(least, above) / step)
        highest = math.floor(min(most, below) / step)
        lowest += lowest * step <= above
        highest -= highest * step >= below
        return min(max(1, lowest), highest) * step

    def _string(self, schema: Mapping[str, Any]) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            return _FORMATS[form]
        least, most = self._bound(schema, "minLength", 0), self._bound(schema, "maxLength", _LONGEST)
        if least > _LONGEST:
            raise self._bad(f"asks for a string of more than {_LONGEST} characters")
        return "simulated".ljust(int(least), "-")[: max(int(min(most, _LONGEST)), 0)]

    def _bound(self, schema: Mapping[str, Any], name: str, default: float) -> float:
        if name not in schema:
            return default
        number = schema[name]
        if not isinstance(number, int | float) or isinstance(number, bool) or not abs(number) <= _UNBOUNDED:
            raise self._bad(f"has a {name} that is no number between -2^53 and 2^53")
        if name == "multipleOf" and number < _FINEST:
            raise self._bad(f"has a multipleOf below {_FINEST}")
        return number

    def _branch(self, branches: Sequence[Any], depth: int) -> Any:
        """The first branch; deeper down the one that ends soonest."""
        if depth < _GENEROUS:
            return branches[0]
        return min(branches, key=_weight)

    def _joined(self, schemas: Sequence[Any]) -> dict[str, Any]:
        """One schema that says what all of them say; of two values for a keyword, the later."""
        joined: dict[str, Any] = {}
        for schema in schemas:
            if not isinstance(schema, dict):
                continue  # `true` adds nothing
            target = self._followed(schema["$ref"]) if "$ref" in schema and len(schemas) > 1 else schema
            for name, value in (target if isinstance(target, dict) else {}).items():
                known = joined.get(name)
                if name == "properties" and isinstance(known, dict) and isinstance(value, dict):
                    joined[name] = known | value
                elif name == "required" and isinstance(known, list) and isinstance(value, list):
                    joined[name] = known + [one for one in value if one not in known]
                else:
                    joined[name] = value
        return joined

    def _followed(self, reference: Any) -> Any:
        """What a local reference points at: `#` or `#/$defs/name` (RFC 6901, section 6)."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._bad("has a $ref that is not local: write #/$defs/…")
        place: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and _INDEX.fullmatch(name) and int(name) < len(place):
                place = place[int(name)]
            elif isinstance(place, dict) and name in place:
                place = place[name]
            else:
                raise self._bad("has a $ref that points at nothing")
        return place

    def _bad(self, what: str) -> BadRequest:
        return BadRequest(f"The JSON schema in '{self._param}' {what}.", param=self._param)


def _between(low: float, high: float) -> float:
    """A short number strictly between the two, if there is one."""
    if low < 1.5 < high:
        return 1.5
    near = low + 0.5 if low >= 1.5 else high - 0.5
    return near if low < near < high else (low + high) / 2


def _type_of(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is not None:
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "string"


def _weight(branch: Any) -> int:
    """How far a branch may still grow: nothing, a scalar, an array, an object, a reference."""
    if not isinstance(branch, dict):
        return 1
    if "$ref" in branch or "anyOf" in branch or "oneOf" in branch or "allOf" in branch:
        return 4
    kind = _type_of(branch)
    return {"null": 0, "array": 2, "object": 3}.get(kind, 1) if isinstance(kind, str) else 1
