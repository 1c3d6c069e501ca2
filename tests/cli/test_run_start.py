"""What `mitmgate run` says at its start: which keys it lacks, and three lines that can be pasted."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mitmgate
from mitmgate.cli import ca
from mitmgate.cli.main import main
from mitmgate.transport.authority import load_or_create
from mitmgate.transport.rotation import activate, rotate
from rig.gateway import Gateway, shipped_rules
from rig.starts import StartGateway

APPLICATION = """
import httpx, ssl
call = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
reply = httpx.post("https://api.openai.com/v1/chat/completions", json=call)
print(reply.status_code, reply.headers["x-gateway-route"], ssl.create_default_context().cert_store_stats()["x509_ca"])
"""
HOSTS = ("api.openai.com",)


def told(gate: Gateway) -> list[str]:
    return gate.errors().splitlines()


def warnings(gate: Gateway) -> list[str]:
    return [line.removeprefix("warning: ") for line in told(gate) if line.startswith("warning: ")]


def shell(line: str) -> str:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(mitmgate.__file__).parents[1])}
    done = subprocess.run(["bash", "-euc", line], env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# The three lines


@pytest.mark.parametrize("written_before", [False, True])
def test_the_three_lines_can_be_pasted(gateway: StartGateway, tmp_path: Path, written_before: bool) -> None:
    confdir = tmp_path / "conf"
    if written_before:
        assert main(["ca", "--confdir", str(confdir), "--bundle"]) == 0
    gate = gateway(shipped_rules(), arguments=("--confdir", str(confdir)))
    call, application, ready = told(gate)[-3:]
    assert '"choices"' in shell(call)
    assert '"status":"ok"' in shell(ready).replace(" ", "")
    assert ("mitmgate ca " in application) != written_before
    script = tmp_path / "application.py"
    script.write_text(APPLICATION)
    start, _, _ = application.rpartition("python your_application.py")
    status, route, authorities = shell(f"{start}{shlex.quote(sys.executable)} {shlex.quote(str(script))}").split()
    assert (status, route) == ("200", "default")
    assert int(authorities) > 50            # what is tunnelled verifies too


def test_a_file_of_cas_that_lacks_the_one_that_signs_is_not_named(tmp_path: Path) -> None:
    confdir = tmp_path / "conf dir"
    first = load_or_create(confdir, permitted=HOSTS)
    assert ca.trust_file(first, confdir) is None
    assert main(["ca", "--confdir", str(confdir), "--bundle"]) == 0
    assert ca.trust_file(first, confdir) == confdir / ca.BUNDLE_FILE
    rotate(confdir, HOSTS)
    activate(confdir)
    second = load_or_create(confdir, permitted=HOSTS)
    assert ca.trust_file(second, confdir) is None
    assert main(["ca", "--confdir", str(confdir), "--bundle"]) == 0
    assert ca.trust_file(second, confdir) == confdir / ca.BUNDLE_FILE


# Keys that are not there


def test_the_shipped_rules_need_no_key_and_say_what_a_provider_would_need(gateway: StartGateway) -> None:
    gate = gateway(shipped_rules())
    assert warnings(gate) == []
    (note,) = (line for line in told(gate) if line.startswith("note: "))
    assert "simulator" in note
    assert "OPENAI_API_KEY" in note


RULES = """
providers:
  openai: {}
  groq: {credential: [{env: OUR_GROQ_KEY}, {env: OLD_GROQ_KEY}]}
  mistral: {}
  xai: {}
  off: {base_url: "http://10.0.0.8/v1", disabled: true}
  unused: {base_url: "http://10.0.0.8/v1", disabled: true}
  simulator: {}
routes:
- name: one
  targets: [{provider: openai, model: a}, {provider: openai, model: b}, {provider: off}]
  fallback: [{provider: openai}, {provider: simulator}]
- {name: two, targets: [{provider: groq}, {provider: xai}], fallback: [{provider: simulator}, {provider: openai}]}
models:
  fast: {targets: [{provider: groq, model: a}, {provider: simulator}]}
"""


def test_each_provider_without_a_key_has_one_line_that_names_its_variable(gateway: StartGateway) -> None:
    gate = gateway(RULES, env={"XAI_API_KEY": "xai-secret"})
    assert warnings(gate) == [
        "no key in OPENAI_API_KEY: the provider openai is skipped at 10-rules.yaml:11, 10-rules.yaml:14",
        "no key in OUR_GROQ_KEY or OLD_GROQ_KEY: the provider groq is skipped at 10-rules.yaml:14, 10-rules.yaml:16",
        "no key in MISTRAL_API_KEY: the provider mistral is skipped",
        "`disabled: true`: the provider off is skipped at 10-rules.yaml:11",
    ]
    assert "xai-secret" not in gate.errors()
    _, ready = gate.admin("/readyz")
    assert "OPENAI_API_KEY" in ready
    assert "note: " not in gate.errors()


def test_many_targets_are_counted_after_the_first(gateway: StartGateway) -> None:
    targets = [{"provider": "openai"}, {"provider": "simulator"}]
    routes = "".join(f"\n- {{name: r{each}, targets: {targets}}}" for each in range(40))
    gate = gateway(f"providers: {{openai: {{}}, simulator: {{}}}}\nroutes:{routes}\n")
    (line,) = warnings(gate)
    assert line.endswith("10-rules.yaml:7 and 35 more")


def test_a_source_that_holds_nothing_yet_is_named(gateway: StartGateway, tmp_path: Path) -> None:
    file = tmp_path / "a-key"
    full = tmp_path / "full"
    full.write_text("sk-full-secret")
    providers = {
        "openai": {"credential": {"file": str(file)}},
        "groq": {"credential": {"file": str(full)}},
    }
    egress = {"proxy": "http://127.0.0.1:3128", "credential": {"env": "EGRESS_KEY"}}
    gate = gateway({"providers": providers, "egress": egress})
    assert warnings(gate) == [
        f"no key in {file}: openai is called without a key until it is there",
        "no credential in EGRESS_KEY: the proxy of egress is asked without one",
    ]
    assert "sk-full-secret" not in gate.errors()


@pytest.mark.parametrize("credential", ["{env: '${KEY}'}", "{env: gsk_abcDEF123}", "{file: '${KEY}'}", "{file: gsk_abcDEF123}"])
def test_a_key_in_the_place_of_its_name_is_not_repeated(gateway: StartGateway, credential: str) -> None:
    rules = f"providers: {{groq: {{credential: {credential}}}, simulator: {{}}}}\n"
    gate = gateway(rules, env={"KEY": "gsk_abcDEF123"})
    (line,) = warnings(gate)
    assert "that providers.groq.credential names: " in line
    assert "gsk_abc" not in gate.errors() + gate.admin("/readyz")[1]
