"""Calls that are made of others: prompt templates, pipelines of audio, descriptions of images."""

from typing import Literal, Self

from pydantic import ConfigDict, model_validator

from mitmgate.rules.addresses import Url
from mitmgate.rules.schema.section import OwnCredential, Section, exactly_one_of
from mitmgate.rules.schema.serving import Target
from mitmgate.rules.units import Name, NonEmpty, Text, broken


class Prompts(Section):
    """Where prompt templates come from."""

    source: Literal["files", "langfuse"] = "files"
    host: Url | None = None
    public_key: OwnCredential | None = None
    secret_key: OwnCredential | None = None

    @model_validator(mode="after")
    def _what_langfuse_needs(self) -> Self:
        given = self.model_fields_set & {"host", "public_key", "secret_key"}
        if self.source == "langfuse" and len(given) < 3:
            raise broken("`source: langfuse` needs host, public_key and secret_key")
        if self.source == "files" and given:
            raise broken("host, public_key and secret_key belong to `source: langfuse`")
        return self


class Transcribe(Section):
    """Audio to text."""

    model: Text | None = None                       # None: `auto`, in the others too
    language: Text | None = None


class Chat(Section):
    """Text to text."""

    model: Text | None = None
    prompt: Name | None = None


class Speak(Section):
    """Text to audio."""

    model: Text | None = None
    voice: Text | None = None
    format: Text | None = None


class Step(Section):
    """One step: exactly one of the three."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    transcribe: Transcribe | None = None
    chat: Chat | None = None
    speak: Speak | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one_of(self, "transcribe", "chat", "speak")
        return self


class Pipeline(Section):
    """Steps, each of which takes what the one before gives."""

    steps: NonEmpty[Step]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for first, second in zip(self.steps, self.steps[1:], strict=False):
            if (first.speak is not None) != (second.transcribe is not None):
                gives = "audio" if first.speak is not None else "text"
                raise broken(f"the steps do not fit: one gives {gives}, and the next does not take it")
        return self


class Vision(Section):
    """Who describes images for models that cannot see."""

    describe_with: Target
