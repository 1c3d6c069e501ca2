"""THREATS row 18: a confdir that somebody else has prepared, and an environment that wants the TLS keys."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attacked import JSON, call, careless, provider, recorded, rules, tunnelled, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.starts import StartUpstream
from rig.wire import Http1

EVIL = """
import pathlib
pathlib.Path({marker!r}).write_text("loaded")

class Evil:
    def request(self, flow):
        pathlib.Path({marker!r}).write_text("called")

addons = [Evil()]
"""


def refused_start(tmp_path: Path, document: dict[str, Any], conf: Path) -> str:
    """What a gateway that must not start says; its exit code is 1."""
    folder = tmp_path / "refused"
    folder.mkdir()
    (folder / "10.yaml").write_text(json.dumps({"version": 1, **document}))
    command = [sys.executable, "-m", "mitmgate", "run", "--rules", str(folder), "--confdir", str(conf)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1, done
    return done.stderr


@pytest.mark.parametrize("name", ["config.yaml", "config.yml"])
async def test_mitmproxys_own_settings_have_no_say(tmp_path: Path, upstream: StartUpstream, name: str) -> None:
    """Scripts are not loaded, verification stays on, nothing is modified, dumped, redirected or opened wider."""
    marker, dump, script = tmp_path / "marker", tmp_path / "dump", tmp_path / "evil.py"
    script.write_text(EVIL.format(marker=str(marker)))
    conf = tmp_path / "conf"
    conf.mkdir(mode=0o700)
    thief = upstream(does.ok("stolen"))
    settings = {
        "scripts": [str(script)],
        "ssl_insecure": True,
        "ssl_verify_upstream_trusted_ca": str(tmp_path / "none.pem"),
        "mode": [f"reverse:{thief.origin}"],
        "listen_host": "0.0.0.0",
        "onboarding": True,
        "save_stream_file": str(dump),
        "modify_headers": ["/~q/authorization/Bearer stolen"],
        "modify_body": ["/~s/hello/changed"],
        "map_remote": [f"|.*|{thief.origin}/"],
        "allow_hosts": ["evil.test"],
        "ignore_hosts": ["llm.test"],
        "validate_inbound_headers": False,
        "rawtcp": True,
        "connection_strategy": "eager",
        "upstream_cert": True,
        "block_global": False,
        "certs": [f"*={tmp_path / 'none.pem'}"],
        "client_certs": str(tmp_path),
        "key_size": 512,
        "tls_version_client_min": "UNBOUNDED",
        "proxyauth": "any",
        "stickycookie": ".*",
    }
    (conf / name).write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items()))
    (conf / "keys.yaml").write_text(f"- {{ctx: [global], key: a, cmd: script.run {script}}}")
    server, strange = upstream(does.ok()), upstream(does.ok(), tls=True)
    document = rules(provider(server), intercept=["llm.test"], models={"strange": {"targets": [{"provider": "strange"}]}})
    document["providers"]["strange"] = provider(strange)
    document["routes"][0]["match"] = {"model": ["m"]}
    with Gateway(tmp_path, document) as gateway:
        direct = await call(gateway)
        inside = await call(gateway, through="llm.test:443", headers=(JSON, ("authorization", "Bearer sk-client")))
        assert json.loads(direct.body)["choices"][0]["message"]["content"] == "hello"
        assert json.loads(inside.body)["choices"][0]["message"]["content"] == "hello"
        unverified = await call(gateway, body=b'{"model": "strange", "messages": [{"role": "user", "content": "x"}]}')
        assert unverified.status == 502
        assert {attempt["outcome"] for attempt in recorded(gateway, unverified)["attempts"]} == {"tls"}
        listening = Path(f"/proc/{gateway.child.pid}/net/tcp").read_text()
        assert f"00000000:{gateway.proxy_port:04X}" not in listening
    assert strange.requests == []
    assert thief.untouched
    assert len(server.requests) == 2
    assert not marker.exists()
    assert not dump.exists()


async def test_nothing_but_the_ca_is_kept_there(tmp_path: Path, upstream: StartUpstream) -> None:
    with Gateway(tmp_path, rules(provider(upstream(does.ok())), intercept=["llm.test"])) as gateway:
        await call(gateway, through="llm.test:443")
    assert (tmp_path / "conf").stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in (tmp_path / "conf").iterdir())
    assert names == ["mitmproxy-ca-cert.cer", "mitmproxy-ca-cert.pem", "mitmproxy-ca.pem"]
    assert (tmp_path / "conf" / "mitmproxy-ca.pem").stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("variable", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"])
async def test_no_tls_keys_are_logged(tmp_path: Path, upstream: StartUpstream, ca_pem: str, variable: str) -> None:
    """Neither of the client's connections nor of the provider's."""
    log = tmp_path / "keys.log"
    server = upstream(does.ok(), tls=True)
    files = {"10-rules.yaml": rules(provider(server, ca="ca.pem"), intercept=["llm.test"]), "ca.pem": ca_pem}
    with Gateway(tmp_path, files, env={variable: str(log)}) as gateway:
        assert (await call(gateway, through="llm.test:443")).status == 200
        assert "SSLKEYLOGFILE is ignored" in gateway.errors()
    assert len(server.requests) == 1
    # aiohttp makes a TLS context when it is imported, and Python writes a comment for it; a key would be a line of its own.
    assert not log.exists() or all(line.startswith("#") for line in log.read_text().splitlines())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_read_stops_the_start(tmp_path: Path, upstream: StartUpstream, mode: int) -> None:
    document = rules(provider(upstream(does.ok())), intercept=["llm.test"])
    with Gateway(tmp_path, document):
        pass
    key = tmp_path / "conf" / "mitmproxy-ca.pem"
    key.chmod(mode)
    told = refused_start(tmp_path, document, tmp_path / "conf")
    assert f"chmod 600 {key}" in told
    assert "PRIVATE KEY" not in told
    assert key.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o777])
def test_a_folder_that_others_can_enter_stops_the_start(tmp_path: Path, upstream: StartUpstream, mode: int) -> None:
    conf = tmp_path / "conf"
    conf.mkdir(mode=0o700)
    conf.chmod(mode)
    told = refused_start(tmp_path, rules(provider(upstream(does.ok()))), conf)
    assert f"chmod 700 {conf}" in told
    assert list(conf.iterdir()) == []


def test_a_linked_key_stops_the_start(tmp_path: Path, upstream: StartUpstream) -> None:
    document = rules(provider(upstream(does.ok())), intercept=["llm.test"])
    with Gateway(tmp_path, document):
        pass
    key = tmp_path / "conf" / "mitmproxy-ca.pem"
    shutil.move(key, tmp_path / "elsewhere.pem")
    key.symlink_to(tmp_path / "elsewhere.pem")
    assert "symbolic link" in refused_start(tmp_path, document, tmp_path / "conf")


@pytest.mark.parametrize("way", ["proxied", "tunnelled", "direct"])
async def test_mitm_it_is_not_served(tmp_path: Path, upstream: StartUpstream, way: str) -> None:
    """mitmproxy's onboarding page would hand out its CA, over a name that nobody owns. Denied here, so that no look-up of
    the real name is made: the page would have been served all the same."""
    document = rules(provider(upstream(does.ok())), intercept=["llm.test"], tunnel={"deny": ["mitm.it"]})
    with Gateway(tmp_path, document) as gateway:
        async with wire(gateway) as client:
            answer = await _mitm_it(gateway, client, way)
    assert answer in (403, 421)


async def _mitm_it(gateway: Gateway, client: Http1, way: str) -> int:
    if way == "tunnelled":
        client.send("CONNECT", "mitm.it:443", (("host", "mitm.it:443"),))
    else:
        client.send("GET", "http://mitm.it/" if way == "proxied" else "/", (("host", "mitm.it"),))
    answer = await client.reply()
    assert b"mitmproxy" not in answer.body
    assert b"BEGIN CERTIFICATE" not in answer.body
    return answer.status


async def test_the_ca_signs_for_intercepted_hosts_only(tmp_path: Path, upstream: StartUpstream) -> None:
    """A stolen key is worth the hosts of the rules and the vendors', not the whole web."""
    with Gateway(tmp_path, rules(provider(upstream(does.ok())), intercept=["llm.test"])) as gateway:
        async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless()) as client:
            assert client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown = subprocess.run(
            ["openssl", "x509", "-in", str(gateway.ca_path), "-noout", "-text"], capture_output=True, text=True, check=True
        ).stdout
    constraints = shown.partition("X509v3 Name Constraints: critical")[2]
    assert "DNS:llm.test" in constraints
    assert "DNS:bank.example" not in constraints
    assert "pathlen:0" in shown
