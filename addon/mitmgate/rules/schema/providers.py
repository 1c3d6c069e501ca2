"""Providers: where vendors and servers are, with whose key, and how much they may be asked at once."""

from typing import Annotated, Literal

from pydantic import Field

from mitmgate.rules.addresses import Url, UrlOrNone
from mitmgate.rules.schema.section import Credentials, Section
from mitmgate.rules.units import Duration, Flag, Percent, PositiveDuration, SentHeaderName, Text, Whole
from mitmgate.rules.words import UrlPath


class Health(Section):
    """A probe of its own, beside what calls tell. `path` is below `base_url`."""

    path: UrlPath
    every: PositiveDuration = 30.0


class Wait(Section):
    """How long a call may stand in the queue, by its priority; seconds."""

    interactive: Duration = 2.0
    batch: Duration = 600.0


class Queue(Section):
    """Calls that wait for a place; beyond `max` they are refused."""

    max: Annotated[int, Whole(0, 1_000_000)]
    wait: Wait = Wait()


class Reserve(Section):
    """The share of the places that batch calls leave free."""

    interactive: Percent


class Concurrency(Section):
    """Calls in flight at once, over all replicas."""

    max: Annotated[int, Whole(1, 1_000_000)]
    queue: Queue | None = None
    reserve: Reserve | None = None


class Provider(Section):
    """A vendor or server. `dialect` and `base_url` are None where the vendor table's row of its name decides."""

    dialect: Text | None = None
    base_url: Url | None = None
    credential: Credentials | None = None
    api_version: Text | None = None
    headers: dict[SentHeaderName, Text] = Field(default_factory=dict)
    ca: Text | None = None
    client_cert: Text | None = None
    proxy: UrlOrNone | None = None                  # "none": straight out, whatever `egress` says
    zone: Literal["external", "internal"] = "external"
    region: Text | None = None
    project: Text | None = None
    base_model: Text | None = None
    disabled: Flag = False
    health: Health | None = None
    concurrency: Concurrency | None = None
