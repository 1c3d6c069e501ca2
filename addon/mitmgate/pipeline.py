"""The order of the stages, as data, executed. This page is the contents page of a request's way.

    ARRIVAL    when the request's headers are there; a refusal here reads no body
    INBOUND    when the request is whole
    ATTEMPT    what each retry and each fallback repeats; then the transport sends
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mitmgate.exchange import Exchange
from mitmgate.stages.admit import admit
from mitmgate.stages.authenticate import authenticate
from mitmgate.stages.authorise import authorise
from mitmgate.stages.identify import identify
from mitmgate.stages.list_models import list_models
from mitmgate.stages.match_route import match_route
from mitmgate.stages.plan_targets import plan_targets
from mitmgate.stages.read_request import read_request
from mitmgate.stages.services import Services
from mitmgate.stages.translate import translate

Stage = Callable[[Exchange, Services], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of each phase. A stage refuses by raising `Refusal`; anything else that it raises is our bug."""

    arrival: tuple[Stage, ...] = (admit, authenticate)
    inbound: tuple[Stage, ...] = (read_request, identify, list_models, match_route, plan_targets)
    attempt: tuple[Stage, ...] = (translate, authorise)


async def execute(stages: tuple[Stage, ...], exchange: Exchange, services: Services) -> None:
    """Run the stages in order, noting the time of each; the first that raises or answers ends it."""
    clock, spent = services.clock.monotonic, exchange.stage_seconds
    began = clock()
    for stage in stages:
        try:
            await stage(exchange, services)
        finally:
            ended = clock()
            name = getattr(stage, "__name__", "stage")
            spent[name] = spent.get(name, 0.0) + ended - began
            began = ended
        if exchange.reply is not None:
            return
