"""A slim mitmproxy master: only the addons that a gateway needs, one table of handlers per event, hooks run at once.

mitmproxy walks some 35 addons for every hook and makes a task for each; half of its time goes there. Here a hook's
handlers are called where the layer asks for them, and only one that really waits becomes a task and pauses the stream.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mitmproxy import hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import commands

logger = logging.getLogger(__name__)

Handlers = tuple[Callable[..., Any], ...]


class DirectAddons(AddonManager):
    """Calls handlers from a table. An exception is logged; what follows from it is the addon's to decide."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._table: dict[str, Handlers] = {}
        self._started: dict[int, asyncio.Task[None]] = {}

    def register(self, addon: Any) -> Any:
        self._table.clear()
        return super().register(addon)  # type: ignore[no-untyped-call]

    def remove(self, addon: Any) -> None:
        self._table.clear()
        super().remove(addon)  # type: ignore[no-untyped-call]

    def handlers(self, event: hooks.Hook) -> Handlers:
        """Everybody who listens to this event, in order."""
        found = self._table.get(event.name)
        if found is None:
            found = tuple(handler for addon in self.chain for _, handler in self._iter_hooks(addon, event))
            self._table[event.name] = found
        return found

    def start(self, hook: commands.StartHook) -> bool:
        """Run a hook at once. True: it ran to its end; False: a handler waits, and `handle_lifecycle` will await it."""
        handlers = self.handlers(hook)
        if not handlers:
            return True
        args = hook.args()
        for position, handler in enumerate(handlers):
            try:
                result = handler(*args)
            except Exception:
                logger.exception("error in %s", hook.name)
                continue
            if result is not None and inspect.isawaitable(result):
                work = self._rest(hook.name, result, handlers[position + 1 :], args)
                task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
                if not task.done():
                    self._started[id(hook)] = task
                    return False
                return True
        return True

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Await what `start` began, or run the event. No UpdateHook: nobody draws flows here."""
        task = self._started.pop(id(event), None)
        if task is not None:
            await task
        else:
            await self.trigger_event(event)

    async def trigger_event(self, event: hooks.Hook) -> None:
        handlers = self.handlers(event)
        if handlers:
            await self._rest(event.name, None, handlers, event.args())

    async def _rest(self, name: str, first: Awaitable[None] | None, handlers: Handlers, args: Sequence[Any]) -> None:
        try:
            if first is not None:
                await first
        except Exception:
            logger.exception("error in %s", name)
        for handler in handlers:
            try:
                result = handler(*args)
                if result is not None and inspect.isawaitable(result):
                    await result
            except Exception:
                logger.exception("error in %s", name)


class SlimMaster(Master):
    """A master without user interface, log events or flow store."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._legacy_log_events.uninstall()     # it fires an event for each log line
        self.addons: DirectAddons = DirectAddons(self)

    def load(self, *addons: object) -> None:
        """Add addons, in order."""
        self.addons.add(*addons)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Stop serving; `run` returns."""
        self.shutdown()  # type: ignore[no-untyped-call]
