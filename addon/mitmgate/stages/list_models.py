"""List the models: on a base_url call, `GET /v1/models` tells what the rules offer."""

from typing import Any

import orjson

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange, Reply
from mitmgate.stages.services import Services

_JSON = (("content-type", "application/json"),)


async def list_models(exchange: Exchange, services: Services) -> None:
    """Answer `GET /models` and `GET /models/{id}` of direct calls (OpenAI API reference, "Models")."""
    endpoint = exchange.endpoint
    assert endpoint is not None
    if endpoint.operation != "models" or not exchange.arrival.direct or exchange.arrival.method not in ("GET", "HEAD"):
        return
    offered = services.table.offered_to(exchange.project)
    if endpoint.suffix == "/models":
        document: dict[str, Any] = {"object": "list", "data": [_model(name) for name in offered]}
    else:
        name = endpoint.suffix.removeprefix("/models/")
        if name not in offered:
            raise Refusal("model_not_found", "The rules of this gateway offer no such model.", param="model")
        document = _model(name)
    exchange.reply = Reply(200, _JSON, orjson.dumps(document))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mitmgate"}
