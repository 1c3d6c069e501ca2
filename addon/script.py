"""mitmgate inside a stock mitmproxy: `mitmdump -s addon/script.py --set mitmgate_rules=rules`, or `mitmweb`.

The command `mitmgate run` is the product; this is for looking at flows in mitmproxy's own interfaces. The first thing
that happens here is that mitmproxy's NextLayer goes: from then on nothing passes but through the gateway's layers, also
when this script fails to load or is reloaded broken. (Clients then wait in vain: closed, but mute.)
"""

import asyncio
import collections
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mitmproxy import addonmanager, ctx, exceptions, flow

for _stock in ("nextlayer", "tlsconfig"):
    if _addon := ctx.master.addons.get(_stock):
        ctx.master.addons.remove(_addon)

sys.path.insert(0, str(Path(__file__).parent))

from mitmgate.rules.positions import RulesError  # noqa: E402 - the path must be there first
from mitmgate.transport.confdir import AuthorityError  # noqa: E402
from mitmgate.transport.house import OPTIONS, House  # noqa: E402
from mitmgate.transport.listening import require_loopback  # noqa: E402

RETAINED = 500                              # flows that mitmproxy's interfaces keep


class Script:
    """Builds the house within a master that is not ours."""

    name = "mitmgate-script"

    def __init__(self) -> None:
        self.house: House | None = None
        self.added: tuple[object, ...] = ()
        self.seen: collections.deque[flow.Flow] = collections.deque()
        self.closing: asyncio.Future[None] | None = None

    def load(self, loader: addonmanager.Loader) -> None:
        """Its options, and those of mitmproxy that the gateway depends on."""
        loader.add_option("mitmgate_rules", str, "rules", "The folder of mitmgate's rules.")
        ctx.options.update(**OPTIONS)

    async def running(self) -> None:
        """Put the gateway's addons in."""
        house = House(Path(ctx.options.mitmgate_rules), _confdir(), dict(os.environ))
        try:
            await house.build()
            require_loopback(ctx.options.listen_host, house.snapshot.rules)
        except (RulesError, AuthorityError, ValueError, OSError) as error:
            raise exceptions.OptionsError(f"mitmgate does not start, nothing passes: {error}") from error
        self.house, house.served = house, True
        self.added = house.addons(ctx.master.addons.get("proxyserver"), None)
        ctx.master.addons.add(*self.added)

    def done(self) -> None:
        """The script is reloaded or mitmproxy ends; mitmproxy calls this from sync code."""
        for addon in self.added:
            ctx.master.addons.remove(addon)
        if self.house is not None:
            self.closing = asyncio.ensure_future(self.house.close())

    def response(self, ended: flow.Flow) -> None:
        """mitmproxy's interfaces keep every flow in memory; here they keep the latest."""
        view = ctx.master.addons.get("view")
        if view is None:
            return
        self.seen.append(ended)
        while len(self.seen) > RETAINED:
            remove: Callable[[list[flow.Flow]], None] = view.remove
            remove([self.seen.popleft()])


def _confdir() -> Path:
    return Path(ctx.options.confdir).expanduser()


addons = [Script()]
