"""Real clients for both ways in: the `openai` package pointed at the gateway, and unchanged behind HTTPS_PROXY."""

import json
import os
import ssl
import subprocess
import sys
import textwrap
from typing import Any

import httpx
import openai

from rig.gateway import Gateway

CLIENT_KEY = "sk-client-of-the-gateway"
"""What the clients send as their own key."""


def trust(gateway: Gateway) -> ssl.SSLContext:
    """A TLS context that trusts the gateway's CA and nothing else."""
    return ssl.create_default_context(cafile=str(gateway.ca_path))


def direct(gateway: Gateway, *, max_retries: int = 0, **more: Any) -> openai.OpenAI:
    """The package with `base_url`."""
    connect = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(
        base_url=gateway.base_url, api_key=CLIENT_KEY, max_retries=max_retries, http_client=connect, **more
    )


def direct_async(gateway: Gateway, *, max_retries: int = 0, **more: Any) -> openai.AsyncOpenAI:
    """The async package with `base_url`."""
    connect = openai.DefaultAsyncHttpxClient(trust_env=False)
    return openai.AsyncOpenAI(
        base_url=gateway.base_url, api_key=CLIENT_KEY, max_retries=max_retries, http_client=connect, **more
    )


def proxied(gateway: Gateway, *, max_retries: int = 0, **more: Any) -> openai.OpenAI:
    """The package with its own default address, behind the proxy."""
    connect = openai.DefaultHttpxClient(proxy=gateway.proxy_url, verify=trust(gateway), trust_env=False)
    return openai.OpenAI(
        base_url="https://api.openai.com/v1", api_key=CLIENT_KEY, max_retries=max_retries, http_client=connect, **more
    )


def proxied_async(gateway: Gateway, *, max_retries: int = 0, **more: Any) -> openai.AsyncOpenAI:
    """The async package with its own default address, behind the proxy."""
    connect = openai.DefaultAsyncHttpxClient(proxy=gateway.proxy_url, verify=trust(gateway), trust_env=False)
    return openai.AsyncOpenAI(
        base_url="https://api.openai.com/v1", api_key=CLIENT_KEY, max_retries=max_retries, http_client=connect, **more
    )


def plain(gateway: Gateway, *, through_proxy: bool = False, timeout: float = 15.0) -> httpx.Client:
    """httpx with the gateway's trust; for what the package hides: raw headers, raw bodies, raw events."""
    if through_proxy:
        return httpx.Client(
            base_url="https://api.openai.com/v1",
            proxy=gateway.proxy_url,
            verify=trust(gateway),
            trust_env=False,
            timeout=timeout,
        )
    return httpx.Client(base_url=gateway.base_url, trust_env=False, timeout=timeout)


def run_application(gateway: Gateway, program: str, *, within: float = 40.0) -> Any:
    """Runs an unchanged application in a process of its own; what it prints as JSON.

    Its environment says what an operator's would: HTTPS_PROXY, SSL_CERT_FILE and OPENAI_API_KEY, nothing else of ours.
    """
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(gateway.folder / "home"),
        "HTTPS_PROXY": gateway.proxy_url,
        "https_proxy": gateway.proxy_url,
        "SSL_CERT_FILE": str(gateway.ca_path),
        "OPENAI_API_KEY": CLIENT_KEY,
    }
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=within, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:] + gateway.log()[-3000:]
    return json.loads(done.stdout)
