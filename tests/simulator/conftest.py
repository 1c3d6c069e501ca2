"""A running simulator for each test, and three ways to ask it: the `openai` package, httpx and a bare socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest

from mitmgate.exchange import Origin
from mitmgate.simulator.server import Simulator

type Exchange = Callable[..., Awaitable[tuple[bytes, str]]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """Where it listens."""
    simulator = Simulator()
    yield await simulator.start()
    await simulator.stop()


@pytest.fixture
async def client(origin: Origin) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official package."""
    connect = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="none", max_retries=0, http_client=connect) as made:
        yield made


@pytest.fixture
async def http(origin: Origin) -> AsyncIterator[httpx.AsyncClient]:
    """For raw bodies and headers."""
    async with httpx.AsyncClient(base_url=f"{origin}/v1", trust_env=False, timeout=10) as made:
        yield made


@pytest.fixture
def exchange(origin: Origin) -> Exchange:
    """For what is not HTTP: `await exchange(document, simulate)` is the bytes that came, and how the connection ended.

    The end is `closed`, `reset`, or `open` if nothing more came for `patience` seconds.
    """

    async def ask(document: dict[str, Any], simulate: str, patience: float = 5.0) -> tuple[bytes, str]:
        body = json.dumps(document).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {origin.host}\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\nx-simulate: {simulate}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(origin.host, origin.port)
        writer.write(head.encode() + body)
        came = bytearray()
        try:
            while chunk := await asyncio.wait_for(reader.read(65536), patience):
                came += chunk
            return bytes(came), "closed"
        except ConnectionResetError:
            return bytes(came), "reset"
        except TimeoutError:
            return bytes(came), "open"
        finally:
            writer.close()

    return ask
