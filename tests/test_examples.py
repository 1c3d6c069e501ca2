"""rules/examples: each folder loads, compiles as at a start, and sends requests where its comments and its tests say."""

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from mitmgate.cli import explain, test
from mitmgate.exchange import Chosen, Origin
from mitmgate.providers.vendors import VENDORS
from mitmgate.routing.match import Asked
from mitmgate.rules.schema import Credential
from mitmgate.runtime import Shared, Snapshot, compile_rules

SHIPPED = Path(__file__).parents[1] / "rules"
EXAMPLES = SHIPPED / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
FOLDERS = [SHIPPED, *(EXAMPLES / name for name in NAMES)]
# OPERATORS, "The ten tasks", in their order.
TASKS = (
    "eu-residency", "share-to-claude", "pii-stays-in", "team-budget", "corporate-egress", "redact-and-restore",
    "batch-below-interactive", "rename-models", "take-out-a-provider", "why-was-it-slow",
)  # fmt: skip
NAMED_THERE = (
    "PARTNER_KEY", "VLLM_KEY", "OPENAI_API_KEY_OLD", "GROQ_KEY_OF_TEAM_A", "AZURE_EU", "OPENAI_EU", "WEBHOOK_SECRET",
)  # fmt: skip
ENVIRON = dict.fromkeys([*NAMED_THERE, *(vendor.variable for vendor in VENDORS.values() if vendor.variable)], "made-up")
LLAMA = "llama-3.3-70b-versatile"
HOUSE = "meta-llama/Llama-3.3-70B-Instruct"


def compiled(name: str, environ: Mapping[str, str] = ENVIRON) -> Snapshot:
    return compile_rules(EXAMPLES / name, environ, Origin("http", "127.0.0.1", 1), Shared())


def run(command: ModuleType, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    code: int = command.main(parser.parse_args(arguments))
    return code


def asked(
    model: str | None, operation: str = "chat", *, host: str = "127.0.0.1", client: str = "127.0.0.1", **headers: str
) -> Asked:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Asked(host, "/v1/chat/completions", operation, model, named, client)


def served_by(chosen: Chosen) -> list[str]:
    """Targets, then fallbacks, each as provider/model; `*` is the model that the client named."""
    return [target.key for target in (*chosen.targets, *chosen.fallback)]


def test_each_of_the_ten_tasks_has_its_example() -> None:
    assert set(TASKS) <= set(NAMES)
    assert len(NAMES) >= 16


def test_each_is_one_file_with_tests_beside_it() -> None:
    assert not list(EXAMPLES.glob("*.yaml"))
    for name in NAMES:
        own = {"teams"} if name == "teams" else set()
        assert {path.name for path in (EXAMPLES / name).iterdir()} == {"rules.yaml", "tests"} | own
        assert (EXAMPLES / name / "rules.yaml").read_text(encoding="utf-8").startswith("# "), "says what it is for"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "take-out-a-provider"])
def test_it_starts_without_a_warning_when_its_keys_are_set(name: str) -> None:
    snapshot = compiled(name)
    assert snapshot.table.warnings == ()
    assert all(provider.active for provider in snapshot.providers.values())


def test_a_provider_that_was_taken_out_is_told_at_the_start() -> None:
    (warning,) = compiled("take-out-a-provider").table.warnings
    assert warning.startswith("`disabled: true`: the provider openai is skipped at rules.yaml:")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_its_own_tests_pass_and_reach_all_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(test, str(folder), "--coverage-min", "100%") == 0, capsys.readouterr().out


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_it_can_be_explained(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "request.json").write_text('{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}')
    assert run(explain, str(folder), str(tmp_path / "request.json")) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("request   POST /v1/chat/completions direct")
    assert "\nplan      " in said.out or "\nrefused   " in said.out


def test_tests_are_not_served() -> None:
    """What stands in `tests/` is no part of the rules."""
    assert compile_rules(SHIPPED, {}, Origin("http", "127.0.0.1", 1), Shared()).rules.routes[0].name == "default"


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_no_secret(name: str) -> None:
    for provider in compiled(name).rules.providers.values():
        given = provider.credential if isinstance(provider.credential, tuple) else (provider.credential,)
        assert not any(isinstance(each, Credential) and each.value is not None for each in given)


@pytest.mark.parametrize(
    ("name", "request_", "route", "targets"),
    [
        ("openai-with-fallback", asked("gpt-4o"), "chat", ["openai/*", f"groq/{LLAMA}"]),
        ("openai-with-fallback", asked("text-embedding-3-small", "embeddings"), "all-else", ["openai/*"]),
        ("rename-models", asked("gpt-3.5-turbo-16k"), "retired", ["openai/gpt-4o-mini"]),
        ("rename-models", asked(f"groq/{LLAMA}"), "by-prefix", [f"groq/{LLAMA}"]),
        ("rename-models", asked("auto"), "unnamed", ["openai/gpt-4o-mini"]),
        ("rename-models", asked("fast"), "fast", ["groq/llama-3.1-8b-instant", "openai/gpt-4o-mini"]),
        ("corporate-egress", asked("llama-3.3"), "local-models", ["local/*"]),
        ("corporate-egress", asked("partner-1"), "partner", ["direct/*"]),
        ("client-credentials", asked("gpt-4o", host="api.openai.com"), "chat", ["openai/*", f"groq/{LLAMA}"]),
        ("internal-vllm", asked("house"), "house", [f"vllm-a/{HOUSE}", f"vllm-b/{HOUSE}", "openai/gpt-4o-mini"]),
        ("internal-vllm", asked("e5", "embeddings", client="10.20.3.4"), "laptops", ["vllm-b/BAAI/bge-m3"]),
        ("internal-vllm", asked("x", x_job="nightly-7"), "batch-jobs", [f"vllm-a/{HOUSE}"]),
        ("timeouts-and-retries", asked("x", x_priority="batch"), "patient", ["openai/*"]),
        ("timeouts-and-retries", asked("x"), "all-else", ["openai/*"]),
    ],
)
def test_a_request_goes_where_the_comments_say(name: str, request_: Asked, route: str, targets: list[str]) -> None:
    chosen = compiled(name).table.choose(request_, direct=True)
    assert chosen is not None
    assert (chosen.route, served_by(chosen)) == (route, targets)


def test_the_corporate_proxy_is_asked_for_what_is_outside() -> None:
    providers = compiled("corporate-egress").providers
    assert providers["openai"].proxy == Origin("http", "proxy.corp.example", 3128)
    assert (providers["local"].proxy, providers["direct"].proxy) == (None, None)


def test_the_clients_key_is_passed_on_and_the_gateway_has_none() -> None:
    providers = compiled("client-credentials", {"GROQ_API_KEY": "made-up"}).providers
    assert (providers["openai"].client_credential, providers["openai"].credential) == (True, None)
    assert providers["groq"].client_credential is False


def test_a_credential_that_is_not_set_is_left_out_of_the_list() -> None:
    without = {name: value for name, value in ENVIRON.items() if name != "OPENAI_API_KEY_OLD"}
    assert compiled("several-credentials", without).providers["openai"].active


def test_a_catch_all_of_the_main_rules_would_take_the_teams_calls(tmp_path: Path) -> None:
    """Why the example's own last route has a `match`."""
    shutil.copytree(EXAMPLES / "teams", tmp_path / "teams")
    rules = tmp_path / "teams" / "rules.yaml"
    rules.write_text(rules.read_text(encoding="utf-8").replace("    match: {project: unknown}\n", ""), encoding="utf-8")
    taken = compile_rules(tmp_path / "teams", ENVIRON, Origin("http", "127.0.0.1", 1), Shared()).table
    for table, route in ((compiled("teams").table, "search/chat"), (taken, "everybody-else")):
        chosen = table.choose(replace(asked("gpt-4o"), project="search"), direct=True)
        assert chosen is not None
        assert chosen.route == route


def test_the_timeouts_are_those_that_stand_there() -> None:
    chosen = compiled("timeouts-and-retries").table.routes[0].chosen
    deadlines = chosen.deadlines
    assert (deadlines.connect, deadlines.first_token, deadlines.idle, deadlines.total) == (2.0, 5.0, 15.0, 30.0)
    assert chosen.retry.max == 0
