"""Rules to routes: DESIGN §4's order, `$1`, what is inactive, and what `GET /v1/models` offers."""

from pathlib import Path

import pytest

from mitmgate.exchange import Chosen, Origin
from mitmgate.routing.match import Asked
from mitmgate.routing.table import RouteTable
from mitmgate.runtime import Shared, compile_rules

SIMULATOR = Origin("http", "127.0.0.1", 9)
KEYS = {"OPENAI_API_KEY": "sk-a", "GROQ_API_KEY": "gsk-b", "ANTHROPIC_API_KEY": "c"}
RULES = """
version: 1
providers: {openai: {}, groq: {}, claude: {}, local: {base_url: "http://10.0.0.7:8000/v1"}, off: {base_url: "http://10.0.0.8/v1", disabled: true}}
models:
  fast: {targets: [{provider: groq, model: llama-3.3-70b-versatile}], context_window: 9000, strategy: round-robin}
  gpt-4o: {targets: [{provider: local, model: shadowed-by-a-route}]}
  smart: {targets: [{provider: local, model: fast}, {provider: openai, model: gpt-4o}]}
routes:
  - {name: claude, match: {model: "claude/*"}, targets: [{provider: claude, model: $1}], fallback: [{provider: local, model: "x-$1-$1"}]}
  - {name: gpt, match: {model: [gpt-4o, "gpt-3*"]}, targets: [{provider: local}], set: {temperature: 0.2}, default: {top_p: 1}}
  - {name: speech, match: {operation: speech}, targets: [{provider: openai}]}
"""  # noqa: E501


def table(folder: Path, rules: str = RULES, environ: dict[str, str] = KEYS) -> RouteTable:
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    return compile_rules(folder, environ, SIMULATOR, Shared()).table


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> RouteTable:
    return table(tmp_path_factory.mktemp("rules"))


def choose(found: RouteTable, model: str | None, *, direct: bool = True, operation: str = "chat") -> Chosen | None:
    return found.choose(Asked("127.0.0.1", "/v1/chat/completions", operation, model, {}, "127.0.0.1"), direct=direct)


def told(chosen: Chosen | None) -> list[str]:
    """The route's name and the keys of its targets and fallbacks."""
    assert chosen is not None
    return [chosen.route, *(target.key for target in (*chosen.targets, *chosen.fallback))]


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("model", "operation", "expected"),
    [
        ("gpt-4o", "chat", ["gpt", "local/*"]),                                     # a route before the name under `models:`
        ("gpt-3.5-turbo", "chat", ["gpt", "local/*"]),
        ("tts-1", "speech", ["speech", "openai/*"]),
        (None, "speech", ["speech", "openai/*"]),
        ("fast", "chat", ["fast", "groq/llama-3.3-70b-versatile"]),
        ("claude/haiku", "chat", ["claude", "claude/haiku", "local/x-haiku-haiku"]),   # a route before `provider/model`
        ("claude/", "chat", ["claude", "claude/*", "local/x--"]),
    ],
)
def test_routes_then_models_on_every_way_in(
    compiled: RouteTable, model: str | None, operation: str, expected: list[str], direct: bool
) -> None:
    assert told(choose(compiled, model, direct=direct, operation=operation)) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("local/anything/at-all", ["provider/local", "local/anything/at-all"]),
        ("groq/llama-3.3-70b-versatile", ["provider/groq", "groq/llama-3.3-70b-versatile"]),
        ("gpt-4o-mini", ["provider/openai", "openai/gpt-4o-mini"]),                 # the catalogue
    ],
)
def test_built_in_names_on_direct_calls_only(compiled: RouteTable, model: str, expected: list[str]) -> None:
    assert told(choose(compiled, model)) == expected
    assert choose(compiled, model, direct=False) is None


@pytest.mark.parametrize("model", [None, "no-such-model", "local/", "/x", "nobody/x", "off/x", "fast/x", "local"])
def test_what_nothing_serves(compiled: RouteTable, model: str | None) -> None:
    assert choose(compiled, model) is None


def test_an_inactive_providers_catalogue_is_not_asked(tmp_path: Path) -> None:
    rules = "version: 1\nproviders: {openai: {}, groq: {}}\n"
    found = table(tmp_path, rules, {"GROQ_API_KEY": "b"})
    assert choose(found, "gpt-4o-mini") is None
    assert choose(found, "openai/gpt-4o-mini") is None
    assert told(choose(found, "groq/x")) == ["provider/groq", "groq/x"]


def test_what_a_route_carries(compiled: RouteTable) -> None:
    chosen = choose(compiled, "gpt-4o")
    assert chosen is not None
    assert chosen.force == {"temperature": 0.2}
    assert chosen.default == {"top_p": 1}
    assert chosen.where == "rules.yaml:10"
    assert chosen.retry.max == 2
    assert not chosen.by_path


def test_windows_come_from_the_rules_then_the_catalogue(compiled: RouteTable) -> None:
    smart = choose(compiled, "smart")
    assert smart is not None
    own, catalogue = (target.context_window for target in smart.targets)
    assert own == 9000
    assert catalogue is not None
    assert catalogue > 9000


def test_a_target_without_its_key_is_skipped_with_a_warning(tmp_path: Path) -> None:
    rules = """
version: 1
providers: {openai: {}, groq: {}}
routes:
  - name: all
    targets: [{provider: openai, model: a}, {provider: groq, model: b}]
  - name: fallback-only
    targets: [{provider: openai, model: a}]
    fallback: [{provider: groq, model: b}]
"""
    found = table(tmp_path, rules, {"GROQ_API_KEY": "b"})
    assert [told(route.chosen) for route in found.routes] == [["all", "groq/b"], ["fallback-only", "groq/b"]]
    warning = "no key in OPENAI_API_KEY: the provider openai is skipped at rules.yaml:5, rules.yaml:7"
    assert found.warnings == (warning,)


def test_routes_without_any_active_target_are_all_named(tmp_path: Path) -> None:
    rules = """
version: 1
providers: {openai: {}, groq: {}}
models: {m: {targets: [{provider: groq, model: b}]}}
routes:
  - {name: one, targets: [{provider: openai}]}
  - {name: two, targets: [{provider: groq}], fallback: [{provider: openai}]}
"""
    with pytest.raises(ValueError, match="no active target") as caught:
        table(tmp_path, rules, {})
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert [name for name in ("one", "two", "m") if any(f": {name} has" in line for line in lines)] == ["one", "two", "m"]
    assert "rules.yaml:6" in str(caught.value)


def test_offered_models(compiled: RouteTable) -> None:
    offered = compiled.offered
    assert len(offered) == len(set(offered))
    assert {"fast", "smart", "gpt-4o"} <= set(offered)          # names, and a route's literal model
    assert not {"claude/*", "gpt-3*"} & set(offered)
    assert any("tts" in model for model in offered)             # the route without a model takes its provider's whole catalogue
    assert not any("llama" in model for model in offered)       # groq serves only `fast`


def test_offered_for_a_pattern_are_the_catalogue_models_that_it_matches(tmp_path: Path) -> None:
    routes = "routes: [{name: r, match: {model: 'gpt-4o*'}, targets: [{provider: openai}]}]\n"
    rules = "version: 1\nproviders: {openai: {}}\n" + routes
    offered = table(tmp_path, rules).offered
    assert "gpt-4o-mini" in offered
    assert all(model.startswith("gpt-4o") for model in offered)


def test_the_shipped_rules_offer_the_simulators_models(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "rules" / "mitmgate.yaml"
    found = table(tmp_path, shipped.read_text(encoding="utf-8"), {})
    assert "sim-1" in found.offered
    assert told(choose(found, "whatever")) == ["default", "simulator/*"]
