"""The shapes of the fixtures that start things; tests name them in their signatures."""

from collections.abc import Callable
from typing import Any, Protocol

from rig.gateway import Gateway, Rules
from rig.scripted import Upstream

type StartUpstream = Callable[..., Upstream]
"""`start(*script, tls=False, http2=False, names=(), client_ca=None)`: an upstream, closed with the fixture."""


class StartGateway(Protocol):
    """Starts a gateway that ends with the fixture; `more` is what `Gateway` takes."""

    def __call__(self, rules: Rules, **more: Any) -> Gateway: ...
