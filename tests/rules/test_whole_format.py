"""The whole format of DESIGN §4: what each key becomes, and which have no effect yet."""

from decimal import Decimal
from pathlib import Path

import pytest
from written import problems, rules

from mitmgate.providers.capabilities import CAPABILITIES
from mitmgate.rules.schema import (
    AbortIf,
    Alias,
    Allow,
    Cache,
    Concurrency,
    Credential,
    Endpoint,
    GuardrailUse,
    Health,
    Identify,
    Match,
    MatchKeys,
    OnError,
    PolicyTarget,
    ProjectBudget,
    Queue,
    Refuse,
    Reserve,
    Restore,
    Retention,
    RouteTo,
    Telemetry,
    Tier,
    Wait,
)

WHOLE = """\
version: 1
workers: 4
state:
  database: postgresql://gateway:hunter2@db.corp/mitmgate
  counters: redis://counters.corp
  blobs: s3://bucket/files
  replicas: shared
  on_error: {limits: refuse, budgets: allow, cache: refuse, sessions: allow}
providers:
  openai: {health: {path: /models, every: 10s}, credential: {vault: platform}, project: proj-1}
  vllm:
    base_url: http://10.0.0.7:8000/v1
    zone: internal
    region: eu
    api_version: 2024-10-21
    concurrency: {max: 200, queue: {max: 500, wait: {interactive: 1s, batch: 20m}}, reserve: {interactive: 60%}}
models:
  fast:
    targets: [{provider: openai, model: gpt-4o-mini}]
    sticky: conversation
    capabilities: [tools, json, json_schema, vision, audio]
    reasoning: medium
  retired: {refuse: {status: 410, message: "Ask for fast."}}
routes:
  - name: drafts
    match:
      project: [support, "*-test"]
      tenant: acme
      tag: {team: [support, sales], env: prod}
      task: summarisation
      when: request.stream == false && size(request.messages) < 20
      not: {model: "*-audio*", header: {x-env: staging}}
    sticky: [header:x-session-id, body:prompt_cache_key, conversation]
    strategy: least-latency
    targets:
      - {provider: openai, model: gpt-4o-mini, base_model: gpt-4o, max_concurrency: 50, set: {temperature: 0, stop: null},
         default: {user: yes}}
    guardrails: [redact-pii, {use: no-danger, action: flag}]
    cache: {ttl: 1h, scope: tenant}
    priority: batch
    strict: true
    stream: whole
    continue: true
    min_rate: 20
    heartbeat: 15s
    hedge: {after: 2s, targets: [{provider: vllm}]}
    shadow: {targets: [{provider: vllm, set: {n: null}}], share: 2.5%}
    canary: {targets: [{provider: vllm}], share: 10%, abort_if: {error_rate: 5%, over: 100}}
    vision: describe
    files: store
    require_project: true
    capture: redacted
  - {name: closed, match: {host: old.corp}, refuse: {message: "Use gateway.corp."}}
  - {name: uncached, match: {}, targets: [{provider: openai}], cache: false}
aliases: {gpt-4: gpt-4o, "gpt-3.5*": {model: fast, match: {project: support}}}
answer_model: served
policies:
  - name: pii-stays-in
    match: {project: "*", not: {tenant: acme}}
    for: {zone: external, region: [us, "ap-*"], provider: "*", model: gpt-*}
    allow: {regions: eu, providers: [vllm], models: ["*"]}
    guardrails: [{use: redact-pii, action: block}]
  - {name: closed, match: {project: unknown}, refuse: {message: "Who are you?"}}
client_may: {fallback: ["gpt-*", fast], retries: 3, timeout: 2m, load_balance: false, cache: false, name_provider: true}
builtin_routes: [models, auto]
unknown_operations: refuse
guardrails:
  redact-pii: {check: pii, on: [request], action: redact, entities: [email, phone], on_error: allow, restore: {in: [tools]},
               shadow: true, stream: observe, engine: fast}
  no-danger: {check: content_moderation, threshold: 0.8, categories: [violence]}
  answer-shape: {check: schema_validation, on: [response], schema: schemas/answer.json, repair: 1}
tiers: {pro: {rpm: 600, tpm: 400000, concurrency: 20, shared: true}}
projects:
  support:
    id: 6F1C2F7E-6d0b-4c0e-9a39-7f3a3d0f5b11
    kind: ai_gateway
    tier: pro
    tenant: acme
    priority: batch
    identify: {client: [10.1.0.0/16], header: {x-app: support}, proxy_user: support}
    allow: {regions: [eu], providers: ["*"]}
    budget: {monthly_usd: 50, request_tokens: 8000}
    guardrails: [redact-pii]
    client_may: {retries: 1, fallback: false}
    endpoints:
      summarize: {active: false, model: fast, prompt: summarize, stream: false, guardrails: [no-danger],
                  input_schema: schemas/in.json, output_schema: schemas/out.json}
  small-test: {kind: wrapper}
budgets:
  - {name: team-a, of: {tag: {team: a}}, limit: 500 USD, per: month, timezone: Europe/Berlin, warn: [80%, 95%], notify: [ops],
     when_spent: {route_to: fast}}
  - {name: acme, of: {tenant: acme}, limit: 0.50 USD, per: day}
prompts: {source: langfuse, host: https://langfuse.corp, public_key: {env: PUBLIC}, secret_key: {file: langfuse.key}}
pipelines:
  dictate: {steps: [{transcribe: {model: whisper-1, language: de}}, {chat: {model: fast, prompt: tidy}},
                    {speak: {voice: a, format: mp3}}]}
  parrot: {steps: [{speak: {}}, {transcribe: {}}]}
vision: {describe_with: {provider: openai, model: gpt-4o-mini}}
telemetry: {log: none, otlp: http://collector.corp:4318, payloads: redacted}
retention: {records: 7d, sessions: 1h, files: 1d}
notify: {ops: {webhook: {url: https://hooks.corp/hunter2, secret: {env: HOOK}}, on: [budget_warning]}}
"""


def test_gateway_and_providers(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=WHOLE)
    assert (loaded.workers, loaded.answer_model, loaded.unknown_operations) == (4, "served", "refuse")
    assert loaded.builtin_routes == ("models", "auto")
    state = loaded.state
    assert state.database.get_secret_value() == "postgresql://gateway:hunter2@db.corp/mitmgate"
    assert "hunter2" not in f"{loaded!r}{loaded}{loaded.model_dump()}{loaded.model_dump_json()}{loaded.warnings}"
    assert (state.counters.get_secret_value(), state.blobs.get_secret_value()) == ("redis://counters.corp", "s3://bucket/files")
    assert state.replicas == "shared"
    assert state.on_error == OnError(limits="refuse", budgets="allow", cache="refuse", sessions="allow")
    assert loaded.telemetry == Telemetry(log="none", otlp="http://collector.corp:4318", payloads="redacted")
    assert loaded.retention.model_dump() == {"records": 604_800.0, "sessions": 3_600.0, "files": 86_400.0}
    ops = loaded.notify["ops"]
    assert (ops.webhook.url.get_secret_value(), ops.webhook.secret, ops.on) == (
        "https://hooks.corp/hunter2", Credential(env="HOOK"), ("budget_warning",)
    )
    assert loaded.providers["openai"].health == Health(path="/models", every="10s")
    assert loaded.providers["openai"].credential == Credential(vault="platform")
    assert loaded.providers["vllm"].api_version == "2024-10-21"     # YAML 1.2: no date
    assert loaded.providers["vllm"].concurrency == Concurrency(
        max=200, queue=Queue(max=500, wait=Wait(interactive="1s", batch="20m")), reserve=Reserve(interactive="60%")
    )


def test_routes_and_models(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=WHOLE)
    fast = loaded.models["fast"]
    assert (fast.sticky, fast.capabilities, fast.reasoning) == (("conversation",), CAPABILITIES, "medium")
    assert (loaded.models["retired"].refuse, loaded.models["retired"].targets) == (
        Refuse(status=410, message="Ask for fast."), ()
    )
    drafts, closed, uncached = loaded.routes
    match = drafts.match
    assert (match.project, match.tenant, match.task) == (("support", "*-test"), ("acme",), ("summarisation",))
    assert match.tag == {"team": ("support", "sales"), "env": ("prod",)}
    assert match.when == "request.stream == false && size(request.messages) < 20"
    assert match.exclude == MatchKeys(model="*-audio*", header={"x-env": "staging"})
    assert drafts.sticky == ("header:x-session-id", "body:prompt_cache_key", "conversation")
    (target,) = drafts.targets
    assert (target.base_model, target.max_concurrency) == ("gpt-4o", 50)
    assert (target.force, target.default) == ({"temperature": 0, "stop": None}, {"user": "yes"})
    assert drafts.guardrails == (GuardrailUse(use="redact-pii"), GuardrailUse(use="no-danger", action="flag"))
    assert drafts.cache == Cache(ttl="1h", scope="tenant")
    assert (drafts.priority, drafts.strict, drafts.stream, drafts.continued) == ("batch", True, "whole", True)
    assert (drafts.min_rate, drafts.heartbeat) == (20, 15.0)
    assert drafts.hedge is not None
    assert (drafts.hedge.after, [each.provider for each in drafts.hedge.targets]) == (2.0, ["vllm"])
    assert drafts.shadow is not None
    assert (drafts.shadow.share, drafts.shadow.targets[0].force) == (0.025, {"n": None})
    assert drafts.canary is not None
    assert (drafts.canary.share, drafts.canary.abort_if) == (0.1, AbortIf(error_rate="5%", over=100))
    assert (drafts.vision, drafts.files, drafts.require_project, drafts.capture) == ("describe", "store", True, "redacted")
    assert (closed.refuse, closed.targets) == (Refuse(message="Use gateway.corp."), ())
    assert closed.refuse is not None
    assert closed.refuse.status == 403
    assert (uncached.cache, uncached.guardrails, uncached.priority) == (False, (), None)


def test_what_governs(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=WHOLE)
    assert loaded.aliases == {
        "gpt-4": Alias(model="gpt-4o"), "gpt-3.5*": Alias(model="fast", match=Match(project="support"))
    }
    inside, closed = loaded.policies
    assert inside.match == Match.model_validate({"project": "*", "not": {"tenant": "acme"}})
    assert inside.target == PolicyTarget(zone="external", region=["us", "ap-*"], provider="*", model="gpt-*")
    assert inside.allow == Allow(regions="eu", providers=["vllm"], models="*")
    assert inside.guardrails == (GuardrailUse(use="redact-pii", action="block"),)
    assert (closed.refuse, closed.target, closed.allow) == (Refuse(message="Who are you?"), PolicyTarget(), None)
    assert loaded.client_may.model_dump() == {
        "fallback": ("gpt-*", "fast"), "retries": 3, "timeout": 120.0, "load_balance": False, "cache": False,
        "name_provider": True,
    }
    pii, danger, shape = (loaded.guardrails[name] for name in ("redact-pii", "no-danger", "answer-shape"))
    assert pii.restore == Restore.model_validate({"in": ["tools"]})
    assert (pii.on, pii.action, pii.entities, pii.on_error) == (("request",), "redact", ("email", "phone"), "allow")
    assert (pii.shadow, pii.stream, pii.engine) == (True, "observe", "fast")
    assert (danger.on, danger.action, danger.threshold, danger.categories) == (
        ("request", "response"), "block", 0.8, ("violence",)
    )
    assert (danger.on_error, danger.restore, danger.stream, danger.entities) == ("block", False, "window", None)
    assert (shape.schema_path, shape.repair) == ("schemas/answer.json", 1)
    assert loaded.tiers == {"pro": Tier(rpm=600, tpm=400_000, concurrency=20, shared=True)}
    support = loaded.projects["support"]
    assert (support.id, support.tier, support.tenant) == ("6f1c2f7e-6d0b-4c0e-9a39-7f3a3d0f5b11", "pro", "acme")
    assert support.identify == Identify(client=["10.1.0.0/16"], header={"x-app": "support"}, proxy_user="support")
    assert (support.allow, support.priority) == (Allow(regions="eu", providers="*"), "batch")
    assert support.budget == ProjectBudget(monthly_usd=50, request_tokens=8000)
    assert support.client_may is not None
    assert support.client_may.model_fields_set == {"retries", "fallback"}
    assert support.endpoints["summarize"] == Endpoint(
        active=False, model="fast", prompt="summarize", stream=False, guardrails=["no-danger"],
        input_schema="schemas/in.json", output_schema="schemas/out.json",
    )
    assert (loaded.projects["small-test"].kind, loaded.projects["small-test"].identify) == ("wrapper", None)
    first, second = loaded.budgets
    assert (first.of.tag, first.limit, first.per, first.timezone) == ({"team": ("a",)}, Decimal(500), "month", "Europe/Berlin")
    assert (first.warn, first.notify, first.when_spent) == ((0.8, 0.95), ("ops",), RouteTo(route_to="fast"))
    assert (second.of.tenant, second.limit, second.timezone, second.when_spent) == (("acme",), Decimal("0.50"), "UTC", "refuse")


def test_what_is_made_of_other_calls(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=WHOLE)
    assert (loaded.prompts.source, loaded.prompts.public_key) == ("langfuse", Credential(env="PUBLIC"))
    transcribe, chat, speak = loaded.pipelines["dictate"].steps
    assert transcribe.transcribe is not None
    assert (transcribe.transcribe.model, transcribe.transcribe.language) == ("whisper-1", "de")
    assert chat.chat is not None
    assert (chat.chat.model, chat.chat.prompt) == ("fast", "tidy")
    assert speak.speak is not None
    assert (speak.speak.model, speak.speak.voice, speak.speak.format) == (None, "a", "mp3")
    assert loaded.vision is not None
    assert loaded.vision.describe_with.model == "gpt-4o-mini"


def test_the_defaults(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main="version: 1\n")
    assert (loaded.workers, loaded.answer_model, loaded.unknown_operations, loaded.builtin_routes) == (1, "asked", None, None)
    assert loaded.client_may.model_dump() == {
        "fallback": True, "retries": 5, "timeout": 300.0, "load_balance": True, "cache": True, "name_provider": False
    }
    assert loaded.state.on_error.model_dump() == {
        "limits": "allow", "budgets": "refuse", "cache": "allow", "sessions": "refuse"
    }
    assert loaded.state.replicas == "single"
    stores = (loaded.state.database, loaded.state.counters, loaded.state.blobs)
    assert [each.get_secret_value() for each in stores] == ["sqlite:///var/mitmgate.db", "memory://", "file://var/blobs"]
    assert loaded.retention == Retention(records="30d", sessions="30d", files="90d")
    assert loaded.telemetry.model_dump() == {"log": "json", "otlp": None, "payloads": "none"}
    assert loaded.warnings == ()


# DESIGN §4 writes `null` for "no collector"; everywhere else a key without a value is an error.
@pytest.mark.parametrize("none", ["null", "~", "NULL"])
def test_no_collector(tmp_path: Path, none: str) -> None:
    loaded = rules(tmp_path, main=f"version: 1\ntelemetry: {{log: json, otlp: {none}, payloads: none}}\n")
    assert loaded.telemetry.otlp is None
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    "key", ["aliases", "policies", "guardrails", "tiers", "projects", "budgets", "pipelines", "notify"]
)
def test_maps_and_lists_whose_entries_are_commented_out(tmp_path: Path, key: str) -> None:
    assert not getattr(rules(tmp_path, main=f"version: 1\n{key}:\n  # nothing now\n"), key)


def test_models_and_aliases_that_name_one_another_make_no_cycle(tmp_path: Path) -> None:
    """A target names a provider, an alias is followed once: nothing here can turn for ever."""
    loaded = rules(
        tmp_path,
        main="version: 1\nproviders: {openai: }\naliases: {a: b, b: a, c: c}\n"
        "models: {a: {targets: [{provider: openai, model: b}]}, b: {targets: [{provider: openai, model: a}]}}\n",
    )
    assert loaded.aliases["a"].model == "b"


@pytest.mark.parametrize("key", ["aliases", "guardrails", "tiers", "projects", "pipelines", "notify"])
def test_one_name_in_two_files(tmp_path: Path, key: str) -> None:
    value = {
        "aliases": "gpt-4o", "guardrails": "{check: pii}", "tiers": "{rpm: 1}", "projects": "{}",
        "pipelines": "{steps: [{chat: {}}]}", "notify": "{webhook: {url: https://h.example}}",
    }[key]
    found = problems(tmp_path, a=f"version: 1\n{key}: {{x: {value}}}\n", b=f"{key}: {{x: {value}, y: {value}}}\n")
    assert found == [f"b.yaml:1:{len(key) + 4}: {key}.x: given twice, first at a.yaml:2:{len(key) + 4}"]


def test_lists_of_two_files_append(tmp_path: Path) -> None:
    policy = "policies: [{name: %s, allow: {models: a}}]\n"
    assert [each.name for each in rules(tmp_path, a="version: 1\n" + policy % "p", b=policy % "q").policies] == ["p", "q"]
    found = problems(tmp_path, c=policy % "p")
    assert found == ["c.yaml:1:19: policies[2].name: the name `p` is given twice, first at a.yaml:2:19"]


def test_nothing_out_of_the_environment_is_shown(tmp_path: Path) -> None:
    text = "version: 1\nintercept: ['${BAD}']\nstate: {database: '${BAD}'}\naliases: {a: {model: b, match: {when: '${BAD}'}}}\n"
    found = problems(tmp_path, {"BAD": "hunter2/99"}, main=text)
    assert len(found) == 3
    assert "hunter2" not in "".join(found)


def test_numbers_and_flags_out_of_the_environment(tmp_path: Path) -> None:
    environ = {"N": "2", "NO": "false", "HALF": "0.5", "SHARE": "5%", "SPEND": "20 USD"}
    text = """\
version: 1
providers: {openai: }
workers: ${N}
client_may:
  fallback: ${NO}
guardrails:
  g: {check: x, threshold: 0.1, restore: false}
  h:
    check: x
    threshold: ${HALF}
    restore: ${NO}
budgets:
  - {name: b, of: {tenant: t}, limit: "${SPEND}", per: day, warn: ["${SHARE}"]}
routes:
  - name: r
    targets: [{provider: openai}]
    cache: ${NO}
"""
    loaded = rules(tmp_path, environ, main=text)
    assert (loaded.workers, loaded.client_may.fallback, loaded.routes[0].cache) == (2, False, False)
    assert (loaded.guardrails["h"].threshold, loaded.guardrails["h"].restore) == (0.5, False)
    assert (loaded.budgets[0].limit, loaded.budgets[0].warn) == (Decimal(20), (0.05,))


WITHOUT_EFFECT = """
workers state.database state.counters state.blobs state.replicas
state.on_error.limits state.on_error.budgets state.on_error.cache state.on_error.sessions
providers.openai.health providers.openai.credential.vault providers.openai.project providers.vllm.concurrency
routes[0].strategy routes[0].targets[0].max_concurrency routes[0].guardrails routes[0].cache routes[0].priority
routes[0].stream routes[0].continue routes[0].min_rate routes[0].heartbeat routes[0].hedge
routes[0].shadow routes[0].canary routes[0].vision routes[0].files routes[0].require_project routes[0].capture
policies[0].guardrails client_may.fallback client_may.retries client_may.timeout
client_may.load_balance client_may.cache client_may.name_provider unknown_operations
guardrails.redact-pii guardrails.no-danger guardrails.answer-shape tiers.pro
projects.support.tier projects.support.priority projects.support.budget projects.support.guardrails
projects.support.client_may projects.support.endpoints.summarize projects.small-test.kind
budgets[0] budgets[1] prompts pipelines.dictate pipelines.parrot vision
telemetry.log telemetry.otlp telemetry.payloads retention.records retention.sessions retention.files notify.ops
"""


def test_everything_without_effect_is_told_at_its_key(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=WHOLE)
    lines = WHOLE.splitlines()
    told = {}
    for warning in loaded.warnings:
        assert warning.file == "main.yaml"
        last = warning.path.rsplit(".", 1)[-1].split("[")[0]
        here = lines[warning.line - 1][warning.column - 1 :]
        assert here.startswith((f"{last}:", "{name: ")), f"{warning} is not at its key"
        assert warning.message.startswith("has no effect yet: it comes with ")
        told[warning.path] = warning.message.removeprefix("has no effect yet: it comes with ")
    assert sorted(told) == sorted(WITHOUT_EFFECT.split())
    assert told["budgets[0]"] == "budgets"
    assert told["routes[0].cache"] == "the response cache"
    assert list(loaded.warnings) == sorted(loaded.warnings, key=lambda each: (each.line, each.column))


def test_what_is_written_as_it_would_be_anyway_is_no_warning(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main="""\
version: 1
workers: 1
state: {replicas: single, counters: "memory://"}
telemetry: {log: json, payloads: none}
providers: {openai: {region: eu, zone: external, base_model: gpt-4o}}
projects: {p: {kind: ai_gateway, priority: interactive, identify: {client: 10.0.0.0/8}, allow: {regions: eu}, tenant: t}}
policies: [{name: p, for: {zone: external}, allow: {models: gpt-*}}, {name: q, refuse: {message: no}}]
aliases: {a: b}
builtin_routes: []
routes:
  - name: r
    match: {project: p, tenant: t, tag: {a: b}, task: t, when: request.stream, not: {model: b}}
    targets: [{provider: openai, base_model: gpt-4o, set: {n: 1}, default: {user: a}}]
    strategy: weighted
    sticky: conversation
    cache: false
    priority: interactive
    strict: false
    stream: pass
    continue: false
    vision: pass
    files: pass
    require_project: false
    capture: none
  - {name: s, refuse: {message: no}}
""")
    assert [str(each) for each in loaded.warnings] == []


def conditions(*texts: str) -> str:
    """Rules with one alias for each condition."""
    lines = "".join(f"  a{number}: {{model: m, match: {{when: '{text}'}}}}\n" for number, text in enumerate(texts))
    return f"version: 1\naliases:\n{lines}"


def test_a_condition_that_is_repeated_counts_once(tmp_path: Path) -> None:
    assert len(rules(tmp_path, main=conditions(*["request.stream"] * 2_000)).aliases) == 2_000


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"request.n == {number}" for number in range(1_001)], "aliases.a1000.match.when: more than 1,000 different"),
        ([f"request.n == {number} {'|| request.stream ' * 100}" for number in range(23)], "aliases.a22.match.when: more than"),
    ],
)
def test_more_conditions_than_can_be_compiled_in_time(tmp_path: Path, texts: list[str], expected: str) -> None:
    (found,) = problems(tmp_path, main=conditions(*texts))
    assert expected in found


def test_many_wrong_conditions(tmp_path: Path) -> None:
    found = problems(tmp_path, main=conditions(*[f"request.n == n{number}" for number in range(900)]))
    assert len(found) == 900
    assert found[19].endswith("unknown name `n19`")
    assert found[20].endswith("aliases.a20.match.when: not looked at after 20 conditions that are wrong")
