"""Identify: whose call it is, by the projects' own rules, and what the call says about itself."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.exchange import Exchange
from mitmgate.routing.match import Asked
from mitmgate.stages.services import Services

_LONGEST: Final = 128                       # characters of a tag or a task, beyond which it is dropped
_MOST_TAGS: Final = 32


async def identify(exchange: Exchange, services: Services) -> None:
    """Set `project`, `tenant`, `task` and `tags`. A project that nobody is recognised for is `unknown`."""
    document, headers = exchange.document or {}, exchange.request_headers
    arrival = exchange.arrival
    asked = Asked(arrival.origin.host, arrival.path, "", None, headers, arrival.client)
    claimed = headers.get("x-gateway-project-id") or _text(document.get("project_id"))
    project = services.callers.project_of(asked, arrival.proxy_user, claimed)
    if project is not None:
        exchange.project = project.name
    exchange.tenant = (project.tenant if project else None) or _text(document.get("tenantId"))
    exchange.task = _text(headers.get("x-gateflow-task-type"))
    exchange.tags = _tags(document.get("gateflow"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else None


def _tags(extension: object) -> Mapping[str, str]:
    """`gateflow.tags` of the body (GateFlow's extension): text by name."""
    tags: Any = extension.get("tags") if isinstance(extension, dict) else None
    if not isinstance(tags, dict) or len(tags) > _MOST_TAGS:
        return {}
    return {name: value for name, value in tags.items() if _text(name) and _text(value)}
