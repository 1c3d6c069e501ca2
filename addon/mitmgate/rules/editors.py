"""The JSON Schema of the rules, for editors (`mitmgate check --schema`)."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mitmgate.rules.schema import Rules


class _ForEditors(GenerateJsonSchema):
    """Describes what may be written, where pydantic would describe what it becomes."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])           # a key that is not meant is left out, not null

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        written = {"string": str, "boolean": bool, "integer": int}.get(inner.get("type", ""))
        if written is not None and type(default) is written:   # not 30.0 where `30s` is to be written
            return {**inner, "default": default}
        return inner

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        made: JsonSchemaValue = {"type": "object"}             # pydantic would let keys of another form hold anything
        if "keys_schema" in schema:
            made["propertyNames"] = self.generate_inner(schema["keys_schema"])
        if "values_schema" in schema:
            made["additionalProperties"] = self.generate_inner(schema["values_schema"])
        return made


def json_schema() -> dict[str, Any]:
    """The format as JSON Schema (draft 2020-12), for editors."""
    made = Rules.model_json_schema(by_alias=True, mode="validation", schema_generator=_ForEditors)
    return {"$schema": GenerateJsonSchema.schema_dialect, **made, "title": "mitmgate rules"}
