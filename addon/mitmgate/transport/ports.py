"""A port that could not be had: one line that says which, and what to write instead."""

import errno
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ProxyMode

from mitmgate.rules.addresses import Address
from mitmgate.rules.schema import Rules

_FURTHER: Final = 10                        # the port that is proposed; 8080 and 8081 are neighbours


class CannotListen(OSError):
    """A port could not be had. The text is for the operator."""


def cannot_listen(error: OSError, rules: Rules, folder: Path, name: Literal["proxy", "admin"]) -> CannotListen:
    """For an address that `listen:` names, or would name."""
    wanted = rules.listen.proxy if name == "proxy" else rules.listen.admin
    written = rules.where.get(f"listen.{name}")
    place = written or (rules.where.get("listen") or rules.where.get("version") or "").rpartition(":")[0]
    where = str(folder / place)
    if error.errno == errno.EADDRINUSE:
        other = _another(wanted)
        shown = f'"{other}"' if ":" in other.host else str(other)       # YAML would read [::1] as a list
        return CannotListen(f"{wanted} is taken: write `listen: {{{name}: {shown}}}` in {where}")
    return CannotListen(f"cannot listen on {wanted}, `listen: {{{name}: …}}` in {where}: {_reason(error)}")


def mode_cannot_listen(error: OSError, mode: ProxyMode) -> CannotListen:
    """For an address that `--mode …@…` names."""
    host, port = mode.listen_host(), mode.listen_port() or 0
    wanted = str(Address(host, port)) if host else f"port {port}"
    if error.errno == errno.EADDRINUSE:
        spec, _, _ = mode.full_spec.rpartition("@")
        other = _another(Address(host, port))
        return CannotListen(f"{wanted} is taken: write `--mode {spec}@{other if host else other.port}`")
    return CannotListen(f"cannot listen on {wanted}, `--mode {mode.full_spec}`: {_reason(error)}")


def why_not(server: ServerInstance[ProxyMode], rules: Rules, folder: Path, modes: Collection[str]) -> str:
    """Why this server does not run; `modes` are the specs that the operator gave."""
    error = server.last_exception
    if not isinstance(error, OSError):
        return f"{server.mode.full_spec}: {error}"
    if server.mode.full_spec in modes:
        return str(mode_cannot_listen(error, server.mode))
    return str(cannot_listen(error, rules, folder, "proxy"))


def hush(record: logging.LogRecord) -> bool:
    """A filter for mitmproxy's `Servers`: it logs each server that did not start, twice, without a word of our rules."""
    return record.levelno < logging.ERROR


def _another(wanted: Address) -> Address:
    step = _FURTHER if wanted.port + _FURTHER <= 65_535 else -_FURTHER
    return Address(wanted.host, wanted.port + step)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
