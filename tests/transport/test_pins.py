"""Every mitmproxy internal that the transport leans on, so that an upgrade that changes one fails here, loudly.

A failing row says: read the new source, look whether `transport/` still does what it says, then write the new value.
"""

import asyncio
import hashlib
import inspect
from importlib.metadata import version

import h2
import pytest
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master
from mitmproxy.proxy import layer, mode_servers, server, utils
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import _http1, _http2, _http_h2, _upstream_proxy

LEANT_ON = (
    layers.HttpStream,                      # every state that AttemptStream overrides, and those around them
    layers.HttpLayer,                       # connections, waiting_for_establishment, command_sources, setdefault of the client
    layers.GetHttpConnection,               # connection_spec_matches, hash by identity
    layers.HttpClient,
    _http1.Http1Connection,
    _http1.Http1Server,                     # read_headers sends nothing but its error page
    _http1.Http1Client,
    _http1.make_body_reader,                # looks ChunkedReader up at each call
    _http2.Http2Connection,
    _http2.Http2Server,
    _http2.Http2Client,
    _http_h2.BufferedH2Connection,          # receive_data, whose events we look through; made in Http2Connection.__init__
    _upstream_proxy.HttpUpstreamProxy,      # the text of a refused CONNECT
    layer.Layer,                            # _paused, _paused_event_queue, `blocking`
    layer.NextLayer,
    server.ConnectionHandler,               # open_connection: server_connect, then max_conns, then the address;
                                            # handle_connection awaits drain_writers after each piece that it read
    utils.ReceiveBuffer,                    # _chunks
    mode_servers.ProxyConnectionHandler,    # handle_hook calls addons.handle_lifecycle
    next_layer.NextLayer,
    proxyserver.Proxyserver,
    tlsconfig.TlsConfig,
    AddonManager,
    Master,
)


def fingerprint(thing: object) -> str:
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:12]  # type: ignore[arg-type]


@pytest.mark.parametrize("thing", LEANT_ON, ids=lambda thing: f"{thing.__module__}.{thing.__qualname__}")
def test_the_source_is_the_one_that_was_read(thing: object) -> None:
    name = f"{thing.__module__}.{thing.__qualname__}"  # type: ignore[attr-defined]
    assert fingerprint(thing) == FINGERPRINTS[name], f"{name} changed in mitmproxy {version('mitmproxy')}"


def test_a_reader_holds_what_was_read_ahead() -> None:
    """`turns` asks whether there is more."""
    async def read_ahead() -> None:
        reader = asyncio.StreamReader()
        assert not reader._buffer  # type: ignore[attr-defined]
        reader.feed_data(b"more")
        assert reader._buffer  # type: ignore[attr-defined]

    asyncio.run(read_ahead())


def test_h2_bounds_what_a_client_may_open() -> None:
    """CVE-2023-44487 and the CONTINUATION flood are met by h2 itself from 4.3 on (docs/security.md)."""
    assert tuple(map(int, h2.__version__.split(".")[:2])) >= (4, 3)


FINGERPRINTS = {
    "mitmproxy.proxy.layers.http.HttpStream": "baaac4f7cdb3",
    "mitmproxy.proxy.layers.http.HttpLayer": "8da4a8a48e63",
    "mitmproxy.proxy.layers.http.GetHttpConnection": "705fed26f72e",
    "mitmproxy.proxy.layers.http.HttpClient": "8401d422afda",
    "mitmproxy.proxy.layers.http._http1.Http1Connection": "c0675638b075",
    "mitmproxy.proxy.layers.http._http1.Http1Server": "cc8428d0bb6f",
    "mitmproxy.proxy.layers.http._http1.Http1Client": "706b7a68f280",
    "mitmproxy.proxy.layers.http._http1.make_body_reader": "9b076acda459",
    "mitmproxy.proxy.layers.http._http2.Http2Connection": "f18f3940fd55",
    "mitmproxy.proxy.layers.http._http2.Http2Server": "97aac4eab18a",
    "mitmproxy.proxy.layers.http._http2.Http2Client": "a113056f7d2b",
    "mitmproxy.proxy.layers.http._http_h2.BufferedH2Connection": "f983b7220f47",
    "mitmproxy.proxy.layers.http._upstream_proxy.HttpUpstreamProxy": "ba06f9fb28a2",
    "mitmproxy.proxy.layer.Layer": "e98dedd896fb",
    "mitmproxy.proxy.layer.NextLayer": "3cbcbafad282",
    "mitmproxy.proxy.server.ConnectionHandler": "f7209a1273f3",
    "mitmproxy.proxy.utils.ReceiveBuffer": "a1bc82e1404d",
    "mitmproxy.proxy.mode_servers.ProxyConnectionHandler": "10e340d70b3f",
    "mitmproxy.addons.next_layer.NextLayer": "f1d53b3127c3",
    "mitmproxy.addons.proxyserver.Proxyserver": "274ee0764207",
    "mitmproxy.addons.tlsconfig.TlsConfig": "f2bd02c715ae",
    "mitmproxy.addonmanager.AddonManager": "6be8dc580f5c",
    "mitmproxy.master.Master": "e466d3e6ff59",
}
