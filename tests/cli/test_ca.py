"""`mitmgate ca` as an operator runs it; what it prints is run by the programs that it is meant for."""

import argparse
import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mitmgate.cli import ca
from mitmgate.cli.onboarding import ProxyAddress, pac
from mitmgate.transport.authority import CaFiles, load_or_create

HOSTS = ("api.openai.com", "*.openai.azure.com")


def run(*arguments: str, named: CaFiles | None = None) -> int:
    """The command with these arguments; its exit code."""
    parser = argparse.ArgumentParser()
    ca.add_arguments(parser)
    return ca.main(parser.parse_args(arguments), HOSTS, named)


def _fingerprints(pem: str, last: int) -> list[str]:
    """Of the last certificates of a bundle. The system's come first; some of them are too old for this parser."""
    parts = pem.split("-----BEGIN CERTIFICATE-----")[-last:]
    found = [x509.load_pem_x509_certificate(f"-----BEGIN CERTIFICATE-----{part}".encode()) for part in parts]
    return [one.fingerprint(hashes.SHA256()).hex() for one in found]


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    return tmp_path / "conf dir"


def test_the_first_call_makes_the_ca_and_says_so(confdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--confdir", str(confdir), "--path") == 0
    said = capsys.readouterr()
    path = Path(said.out.removesuffix("\n"))
    assert x509.load_pem_x509_certificate(path.read_bytes())
    assert f"made {path}" in said.err
    assert run("--confdir", str(confdir), "--path") == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (said.out, "")


def test_the_answer_as_json_holds_a_recipe_for_every_kind_of_client(
    confdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--confdir", str(confdir), "--json", "--proxy", "gateway.corp:9000") == 0
    answer = json.loads(capsys.readouterr().out)
    authority = load_or_create(confdir, permitted=HOSTS)
    assert answer["certificate"] == str(authority.certificate_path)
    assert answer["fingerprint"] == authority.fingerprint
    assert answer["created"] is True
    lines = {one["client"]: "\n".join(one["lines"]) for one in answer["clients"]}
    bundle, certificate = answer["bundle"], answer["certificate"]
    for client, variable, value in (
        ("python-httpx", "SSL_CERT_FILE", bundle),
        ("python-requests", "REQUESTS_CA_BUNDLE", bundle),
        ("node", "NODE_EXTRA_CA_CERTS", certificate),
        ("go", "SSL_CERT_FILE", bundle),
        ("curl", "CURL_CA_BUNDLE", bundle),
        ("dotnet", "SSL_CERT_FILE", bundle),
    ):
        assert f"{variable}='{value}'" in lines[client]
        assert "HTTPS_PROXY=http://gateway.corp:9000" in lines[client]
    assert "-Dhttps.proxyHost=gateway.corp -Dhttps.proxyPort=9000" in lines["java"]
    assert "update-ca-certificates" in lines["container"]


def test_the_text_answer_names_all_that_the_json_does(confdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--confdir", str(confdir), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert run("--confdir", str(confdir)) == 0
    text = capsys.readouterr().out
    for line in [answer["certificate"], answer["fingerprint"], answer["bundle"], answer["expires"][:10]]:
        assert line in text
    for client in answer["clients"]:
        assert "\n".join(client["lines"]) in text


def _recipe(confdir: Path, client: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run("--confdir", str(confdir), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    return next(one["lines"] for one in answer["clients"] if one["client"] == client)


def _shell(script: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("CERT_FILE", "BUNDLE", "CERTS"))}
    done = subprocess.run(["bash", "-euc", script], env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shell_lines_can_be_pasted_and_python_then_trusts_both(
    confdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "\n".join(_recipe(confdir, "shell", capsys))
    program = (
        "import ssl; c = ssl.create_default_context(); c.load_default_certs();"
        "print([dict(p[0] for p in one['subject']).get('organizationName') for one in c.get_ca_certs()])"
    )
    names = _shell(f'{script}\n"{sys.executable}" -c "{program}"')
    assert "'mitmgate'" in names
    assert names.count(",") > 50  # the system's are still there


@pytest.mark.skipif(not shutil.which("keytool"), reason="needs a JDK")
def test_the_java_lines_make_a_store_with_ours_beside_the_others(
    confdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "\n".join(_recipe(confdir, "java", capsys))
    listed = _shell(f"unset JAVA_TOOL_OPTIONS\n{script}\nunset JAVA_TOOL_OPTIONS\n"
                    f"keytool -list -keystore '{confdir}/java-truststore' -storepass changeit")
    assert "mitmgate" in listed
    assert listed.count("trustedCertEntry") > 50


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
def test_the_node_lines_can_be_pasted_and_node_reads_the_certificate(
    confdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "\n".join(_recipe(confdir, "node", capsys))
    # Node warns on stderr about a file that it cannot read, and goes on.
    assert "Ignoring" not in _shell(f"({script}\nnode -e 'require(\"tls\").createSecureContext()') 2>&1")


def test_the_bundle_is_the_systems_cas_and_ours(confdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.pem"
    assert run("--confdir", str(confdir), "--bundle", str(target)) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert _fingerprints(target.read_text(), 1) == [load_or_create(confdir, permitted=HOSTS).fingerprint]
    assert ssl.create_default_context(cafile=str(target)).cert_store_stats()["x509_ca"] > 50
    assert run("--confdir", str(confdir), "--bundle", "-") == 0
    assert capsys.readouterr().out == target.read_text()
    assert run("--confdir", str(confdir), "--bundle") == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == target.read_bytes()


def test_rotation_by_command(confdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--confdir", str(confdir))
    assert run(*place, "--path") == 0
    old = load_or_create(confdir, permitted=HOSTS)
    capsys.readouterr()
    assert run(*place, "rotate", "--json") == 0
    step = json.loads(capsys.readouterr().out)
    assert len(x509.load_pem_x509_certificates(Path(step["bundle"]).read_bytes())) == 2
    assert run(*place, "--bundle", "-") == 0
    assert _fingerprints(capsys.readouterr().out, 2) == [old.fingerprint, step["fingerprint"]]
    assert run(*place, "rotate", "--activate") == 0
    assert step["fingerprint"] in capsys.readouterr().out
    new = load_or_create(confdir, permitted=HOSTS)
    assert new.fingerprint == step["fingerprint"] != old.fingerprint
    assert run(*place, "rotate", "--activate") == 1
    assert "no next CA" in capsys.readouterr().err


def test_a_ca_of_the_rules_is_shown_but_not_rotated(
    confdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = load_or_create(tmp_path / "own", permitted=HOSTS)
    old = load_or_create(tmp_path / "old", permitted=HOSTS)
    named = CaFiles(own.certificate_path, tmp_path / "own" / "mitmproxy-ca.pem", (old.certificate_path,))
    assert run("--confdir", str(confdir), "--path", named=named) == 0
    assert capsys.readouterr().out.strip() == str(own.certificate_path)
    assert run("--confdir", str(confdir), "--bundle", "-", named=named) == 0
    assert _fingerprints(capsys.readouterr().out, 2) == [own.fingerprint, old.fingerprint]
    assert run("--confdir", str(confdir), "rotate", named=named) == 1
    assert "previous" in capsys.readouterr().err


def test_an_unfit_folder_is_an_error_with_its_remedy(confdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confdir.mkdir()
    confdir.chmod(0o755)
    assert run("--confdir", str(confdir)) == 1
    assert "chmod 700" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [("--activate",), ("--host", "a.example"), ("rotate", "--path"), ("rotate", "--pac"), ("rotate", "--bundle", "x")],
)
def test_wrong_usage_is_2(confdir: Path, arguments: tuple[str, ...]) -> None:
    assert run("--confdir", str(confdir), *arguments) == 2
    assert not confdir.exists()


@pytest.mark.parametrize("proxy", ["8080", "host", "host:0", "ftp://host:1", "host:1/path", "host:x"])
def test_a_proxy_that_is_none_is_refused(proxy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--proxy", proxy)
    assert stopped.value.code == 2


# PAC

_PAC_RUNNER = """
const shExpMatch = (text, glob) => new RegExp("^" + glob.replace(/[.+^${}()|[\\]\\\\]/g, "\\\\$&")
    .replace(/\\*/g, ".*").replace(/\\?/g, ".") + "$").test(text);
const find = new Function("shExpMatch", process.argv[1] + "; return FindProxyForURL;")(shExpMatch);
console.log(JSON.stringify(JSON.parse(process.argv[2]).map(host => find("https://" + host + "/", host))));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
def test_the_pac_file_sends_only_the_named_hosts_here() -> None:
    hosts = {
        "api.openai.com": "PROXY 127.0.0.1:8080",
        "API.OpenAI.com": "PROXY 127.0.0.1:8080",
        "x.openai.azure.com": "PROXY 127.0.0.1:8080",
        "openai.azure.com": "DIRECT",
        "api.openai.com.evil.example": "DIRECT",
        "apixopenai.com": "DIRECT",
        "example.com": "DIRECT",
        "xn--bcher-kva.example": "PROXY 127.0.0.1:8080",
    }
    script = pac([*HOSTS, "Bücher.example", 'x") || true || ("'], ProxyAddress.parse("127.0.0.1:8080"))
    done = subprocess.run(
        ["node", "-e", _PAC_RUNNER, script, json.dumps(list(hosts))], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(hosts.values())


def test_the_pac_command_makes_no_ca_and_takes_hosts_or_those_of_the_rules(
    confdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--confdir", str(confdir), "--pac", "--proxy", "https://[::1]:8443") == 0
    script = capsys.readouterr().out
    assert '"HTTPS [::1]:8443"' in script
    assert script.count("shExpMatch") == len(HOSTS)
    assert run("--confdir", str(confdir), "--pac", "--json", "--host", "a.example", "b.example") == 0
    assert json.loads(capsys.readouterr().out)["pac"].count("shExpMatch") == 2
    assert not confdir.exists()
