"""Wrong rules and the exact message of each, with its place."""

from pathlib import Path

import pytest

from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError

VENDORS = ("openai", "groq", "anthropic")
DIALECTS = ("openai", "anthropic", "azure", "simulator")
ENVIRON = {"NUMBER": "7", "PASSWORD": "hunter2-in-the-environment", "EMPTY": ""}

TOP = (
    "expected one of version, listen, intercept, tunnel, unmatched, access, workers, egress, ca, state, limits, providers, "
    "models, routes, aliases, answer_model, policies, client_may, builtin_routes, unknown_operations, guardrails, tiers, "
    "projects, budgets, prompts, pipelines, vision, telemetry, retention, notify"
)
DURATION = "expected a duration such as 500ms or 5s"
SIZE = "expected a size such as 64MiB or 512KiB"
URL = "expected a URL such as https://api.example.com/v1"
ADDRESS = "expected an address such as 127.0.0.1:8080 or [::1]:8080"
NAME = "expected a name of 1 to 64 letters, digits, `.`, `_` or `-`"
NO_VALUE = "has no value: write one, or leave the key out"
TAGS = "tags (`!…`) are not allowed: write the value alone, in quotes if it begins with `!`"
CREDENTIAL_KEYS = "expected one of env, file, value, client, vault"
STRATEGIES = "expected fallback, weighted, round-robin, least-latency, least-busy or cheapest"
PERCENT = "expected a percentage such as 80% or 2.5%"
MONEY = "expected an amount of money such as 500 USD"
MATCH = "host, path, operation, model, project, tenant, tag, task, header, client, when"
INSIDE = "expected a path inside the rules folder, such as schemas/answer.json"


def route(line: str) -> str:
    """Rules with one route, of which `line` is line 6."""
    return f"version: 1\nproviders: {{openai: {{}}}}\nroutes:\n  - name: a\n    targets: [{{provider: openai}}]\n    {line}\n"


def provider(text: str) -> str:
    """Rules with one provider, which is line 3; its value begins at column 6."""
    return f"version: 1\nproviders:\n  p1: {text}\n"


WHOLE = [
    ("", "1:1: version: missing: write `version: 1`"),
    ("providers: {}\n", "1:1: version: missing: write `version: 1`"),
    ("version: 2\n", "1:10: version: expected 1, the only version there is, found 2"),
    ('version: "1"\n', "1:10: version: expected 1, the only version there is, found `1` in quotes"),
    ("version: true\n", "1:10: version: expected 1, the only version there is, found true"),
    ("version:\n", "1:1: version: " + NO_VALUE),
    ("- a\n", "1:1: expected a map of keys such as `routes:` at the top of the file"),
    ("version: 1\nrouts: []\n", "2:1: routs: unknown key; did you mean `routes`?"),
    ("version: 1\nxyzzy: []\n", f"2:1: xyzzy: unknown key; {TOP}"),
    ("version: 1\nxyzzy:\n", f"2:1: xyzzy: unknown key; {TOP}"),
    ("version: 1\n<<: {a: 1}\n", '2:1: ["<<"]: merge keys are not part of YAML 1.2: repeat what they would bring'),
    ("version: 1\naccess: opne\n", "2:9: access: expected open or keys, found `opne`; did you mean `open`?"),
    ("version: 1\naccess:\n", "2:1: access: " + NO_VALUE),
    ("version: 1\naccess: yes\n", "2:9: access: expected open or keys, found `yes`"),
    ("version: 1\nunmatched: true\n", "2:12: unmatched: expected pass or refuse, found true"),
    ("version: 1\naccess: open\naccess: keys\n", "3:1: access: given twice, first at rules.yaml:2:1"),
    ("version: 1\nroutes: {}\n", "2:9: routes: expected a list, found a map"),
    ("version: 1\nroutes: [a]\n", "2:10: routes[0]: expected a map, found `a`"),
    ("version: 1\nroutes: [~]\n", "2:10: routes[0]: " + NO_VALUE),
    ("version: 1\nproviders: []\n", "2:12: providers: expected a map, found an empty list"),
    ("version: 1\nintercept: a.example\n", "2:12: intercept: expected a list, found `a.example`"),
    (f"version: 1\nintercept: [{'a' * 513}]\n",
     f"2:13: intercept[0]: expected a host such as api.example.com, *.example.com:8443 or 10.0.0.0/8, found `{'a' * 80}…`"),
    ("version: 1\nintercept: ['10.*']\n",
     "2:13: intercept[0]: '10.*' looks like a range of addresses: write it as a network, such as 10.0.0.0/8"),
    ("version: 1\ntunnel: {allow: ['10.0.0.0/33']}\n",
     "2:18: tunnel.allow[0]: '10.0.0.0/33' is not an address or a network: "
     "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network"),
    ("version: 1\ntunnel: govern\n",
     "2:9: tunnel: expected `governed` or a map with allow, deny, governed, found `govern`"),
    ("version: 1\ntunnel: {governed: yes}\n", "2:20: tunnel.governed: expected true or false, found `yes`"),
    ("version: 1\nca: {key: a}\n", "2:5: ca: `certificate` and `key` go together: give both or none"),
    ("version: 1\negress: {proxy: socks5://x}\n", f"2:17: egress.proxy: {URL}, found something else"),
    ("version: 1\negress: {proxy: 'http://user:hunter2@proxy:3128'}\n",
     "2:17: egress.proxy: the URL holds a user or password: write it under `credential`"),
    ("version: 1\nlisten: {proxy: 8080}\n", f"2:17: listen.proxy: {ADDRESS}, found 8080"),
    ("version: 1\nlisten: {proxy: 'localhost:65536'}\n", f"2:17: listen.proxy: {ADDRESS}, found `localhost:65536`"),
    ("version: 1\nlisten: {admin: '::1:8080'}\n", f"2:17: listen.admin: {ADDRESS}, found `::1:8080`"),
    ("version: 1\nlisten: {admin: ':8080'}\n", f"2:17: listen.admin: {ADDRESS}, found `:8080`"),
    ("version: 1\nlisten: {proxy: 0.0.0.0:8080}\n",
     "2:17: listen.proxy: others than this machine could use the gateway without a key: "
     "write `access: keys`, or `access: open` if that is meant"),
    ("version: 1\nlisten:\n  proxy: '[::]:8080'\n",
     "3:10: listen.proxy: others than this machine could use the gateway without a key: "
     "write `access: keys`, or `access: open` if that is meant"),
    ("version: 1\nlimits: {upload: 5MB}\n", f"2:18: limits.upload: {SIZE}, found `5MB`"),
    ("version: 1\nlimits: {upload: 1024}\n", f"2:18: limits.upload: {SIZE}, found 1024"),
    ("version: 1\nlimits: {headers: 0KiB}\n", f"2:19: limits.headers: {SIZE}, found `0KiB`"),
    ("version: 1\nlimits: {drain: 30}\n", f"2:17: limits.drain: {DURATION}, found 30: write `30s` or `30ms`"),
    ("version: 1\nlimits: {concurrency: 0}\n",
     "2:23: limits.concurrency: expected a whole number from 1 to 1000000, found 0"),
    ("version: 1\nlimits: {concurrency: 1.5}\n",
     "2:23: limits.concurrency: expected a whole number from 1 to 1000000, found 1.5"),
    ("version: 1\nlimits: {concurrency: '${PASSWORD}'}\n",
     "2:23: limits.concurrency: expected a whole number from 1 to 1000000, found `${PASSWORD}`"),
    ("version: 1\naccess: ${PASSWORD}\n", "2:9: access: expected open or keys, found `${PASSWORD}`"),
    ("version: 1\naccess: ${ABSENT}\n",
     "2:9: access: the environment variable `ABSENT` is not set; `${ABSENT:-…}` gives a default"),
    ("version: 1\naccess: ${}\n", "2:9: access: expected `${NAME}` or `${NAME:-default}`; "
     "write `$${` for a `${` that is meant as it is"),
    ("version: 1\nmodels: {m: {}}\n", "2:10: models.m.targets: missing"),
    ("version: 1\nmodels: {m: }\n", "2:10: models.m: " + NO_VALUE),
    ("version: 1\nproviders: {openai: {}}\nmodels: {m: {targets: [{provider: openai}], reasoning: hi}}\n",
     "3:56: models.m.reasoning: expected low, medium or high, found `hi`; did you mean `high`?"),
    ("version: 1\nproviders: {openai: {}}\nmodels: {m: {targets: [{provider: openai}], price: {input: -1, output: 1}}}\n",
     "3:60: models.m.price.input: expected a number, at least 0, found -1"),
    ("version: 1\nproviders: {openai: {}}\nmodels: {m: {targets: [{provider: openai, weight: a}]}}\n",
     "3:51: models.m.targets[0].weight: expected a number, at least 0, found `a`"),
]

PROVIDERS = [
    ("{}", "3:3: providers.p1.base_url: missing: mitmgate knows no address for `p1`"),
    ("", "3:3: providers.p1.base_url: missing: mitmgate knows no address for `p1`"),
    ("{base_url: api.example.com}", f"3:18: providers.p1.base_url: {URL}, found something else"),
    ("{base_url: ftp://api.example.com}", f"3:18: providers.p1.base_url: {URL}, found something else"),
    ("{base_url: 'https://a.example:99999'}", f"3:18: providers.p1.base_url: {URL}, found something else"),
    ("{base_url: 'https://user:hunter2@a.example'}",
     "3:18: providers.p1.base_url: the URL holds a user or password: write it under `credential`"),
    ("{base_url: 'https://a.example/?key=hunter2'}",
     "3:18: providers.p1.base_url: the URL holds a query or a fragment: leave it out"),
    ("{base_url: 'https://a.example/#'}",
     "3:18: providers.p1.base_url: the URL holds a query or a fragment: leave it out"),
    ("{base_url: '${ABSENT}/v1'}",
     "3:18: providers.p1.base_url: the environment variable `ABSENT` is not set; `${ABSENT:-…}` gives a default"),
    ("{base_url: '${PASSWORD}'}", f"3:18: providers.p1.base_url: {URL}, found something else"),
    ("{base_url: http://a.example/v1, credential: {env: KEY}}", "3:18: providers.p1.base_url: a credential would travel "
     "in clear text: use https://, or `zone: internal` if the network is yours"),
    ("{base_url: http://a.example/v1, headers: {Authorization: Bearer hunter2}}", "3:18: providers.p1.base_url: a "
     "credential would travel in clear text: use https://, or `zone: internal` if the network is yours"),
    ("{base_url: https://a.example, dialect: opnai}",
     "3:46: providers.p1.dialect: unknown dialect `opnai`; did you mean `openai`?"),
    ("{base_url: https://a.example, dialect: zzz}", "3:46: providers.p1.dialect: unknown dialect `zzz`; "
     "expected one of anthropic, azure, openai, simulator"),
    ("{base_url: https://a.example, api_version: 2024}",
     "3:50: providers.p1.api_version: expected text, found 2024: put it in quotes"),
    ("{base_url: https://a.example, zone: inside}",
     "3:43: providers.p1.zone: expected external or internal, found `inside`"),
    ("{base_url: https://a.example, headers: {host: b.example}}",
     "3:47: providers.p1.headers.host: this header belongs to the connection and cannot be set"),
    ("{base_url: https://a.example, headers: {x y: z}}",
     '3:47: providers.p1.headers["x y"]: expected the name of a header as the key'),
    ("{base_url: https://a.example, headers: {x: \"a\\r\\nb\"}}",
     "3:50: providers.p1.headers.x: expected one line of text, at most 4096 characters, found something else"),
    ("{base_url: https://a.example, credential: sk-hunter2}", "3:49: providers.p1.credential: expected `client` or "
     "a map with one of env, file, value, vault, found something else"),
    ("{base_url: https://a.example, credential: {sk-hunter2: }}",
     f"3:50: providers.p1.credential: unknown key; {CREDENTIAL_KEYS}"),
    ("{base_url: https://a.example, credential: {vualt: x}}",
     f"3:50: providers.p1.credential.vualt: unknown key; {CREDENTIAL_KEYS}"),
    ("{base_url: https://a.example, credential: {vault: hunter2/key}}",
     f"3:57: providers.p1.credential.vault: {NAME}, found something else"),
    ("{base_url: https://a.example, health: {every: 5s}}", "3:37: providers.p1.health.path: missing"),
    ("{base_url: https://a.example, health: {path: models}}",
     "3:52: providers.p1.health.path: expected a path such as /models, found `models`"),
    ("{base_url: https://a.example, health: {path: /models, every: 0s}}",
     "3:68: providers.p1.health.every: expected a duration longer than 0s, found `0s`"),
    ("{base_url: https://a.example, concurrency: {queue: {max: 5}}}", "3:37: providers.p1.concurrency.max: missing"),
    ("{base_url: https://a.example, concurrency: {max: 0}}",
     "3:56: providers.p1.concurrency.max: expected a whole number from 1 to 1000000, found 0"),
    ("{base_url: https://a.example, concurrency: {max: 5, queue: {max: 1, wait: {bulk: 5s}}}}",
     "3:82: providers.p1.concurrency.queue.wait.bulk: unknown key; expected one of interactive, batch"),
    ("{base_url: https://a.example, concurrency: {max: 5, reserve: {interactive: 60}}}",
     f"3:82: providers.p1.concurrency.reserve.interactive: {PERCENT}, found 60"),
    ("{base_url: https://a.example, region: [eu]}", "3:45: providers.p1.region: expected text, found a list"),
    ("{base_url: https://a.example, credential: {}}",
     "3:49: providers.p1.credential: expected exactly one of env, file, value, client, vault"),
    ("{base_url: https://a.example, credential: {env: KEY, file: key}}",
     "3:49: providers.p1.credential: expected exactly one of env, file, value, client, vault"),
    ("{base_url: https://a.example, credential: {client: false}}",
     "3:58: providers.p1.credential.client: expected true, found something else"),
    ("{base_url: https://a.example, credential: []}",
     "3:49: providers.p1.credential: an empty list: name at least one"),
    ("{base_url: https://a.example, credential: [{env: KEY}, {value: 12345}]}",
     "3:70: providers.p1.credential[1].value: expected text, found a number: put it in quotes"),
    ("{base_url: https://a.example, credential: {env: sk-hunter2}}",
     "3:55: providers.p1.credential.env: expected the name of an environment variable, found something else"),
    ("{base_url: https://a.example, credential: {value: }}", "3:50: providers.p1.credential.value: " + NO_VALUE),
]

ROUTES = [
    ("timeout: {connect: 5}", f"6:24: routes[0].timeout.connect: {DURATION}, found 5: write `5s` or `5ms`"),
    ("timeout: {connect: 5 s}", f"6:24: routes[0].timeout.connect: {DURATION}, found `5 s`: write `5s`"),
    ("timeout: {connect: 1.5s}", f"6:24: routes[0].timeout.connect: {DURATION}, found `1.5s`: write `1500ms`"),
    ("timeout: {connect: 1.5h}", f"6:24: routes[0].timeout.connect: {DURATION}, found `1.5h`: write `90m`"),
    ("timeout: {connect: 0.5ms}", f"6:24: routes[0].timeout.connect: {DURATION}, found `0.5ms`"),
    ("timeout: {connect: 0}", f"6:24: routes[0].timeout.connect: {DURATION}, found 0"),
    ("timeout: {connect: 2.5}", f"6:24: routes[0].timeout.connect: {DURATION}, found 2.5"),
    ("timeout: {connect: 10 Seconds}", f"6:24: routes[0].timeout.connect: {DURATION}, found `10 Seconds`: write `10s`"),
    ("timeout: {connect: '${NUMBER}'}", f"6:24: routes[0].timeout.connect: {DURATION}, found `${{NUMBER}}`"),
    ("timeout: {duration: 30 s}", f"6:25: routes[0].timeout.duration: {DURATION}, or `none`, found `30 s`: write `30s`"),
    ("timeout: {total: 0s}", "6:22: routes[0].timeout.total: expected a duration longer than 0s, found `0s`"),
    ("timeout: {total: none}", f"6:22: routes[0].timeout.total: {DURATION}, found `none`"),
    ("timeout: {duration: never}", f"6:25: routes[0].timeout.duration: {DURATION}, or `none`, found `never`"),
    ("timeout: {first_tokn: 5s}", "6:15: routes[0].timeout.first_tokn: unknown key; did you mean `first_token`?"),
    ("retry: {max: 6}", "6:18: routes[0].retry.max: expected a whole number from 0 to 5, found 6"),
    ("retry: {max: true}", "6:18: routes[0].retry.max: expected a whole number from 0 to 5, found true"),
    ("retry: {on: [4xx]}",
     "6:18: routes[0].retry.on[0]: expected connect, timeout, 5xx or a status from 400 to 599, found `4xx`"),
    ("retry: {on: [408, 200]}",
     "6:23: routes[0].retry.on[1]: expected connect, timeout, 5xx or a status from 400 to 599, found 200"),
    ("retry: {backoff: {base: 500}}", f"6:29: routes[0].retry.backoff.base: {DURATION}, found 500: write `500s` or `500ms`"),
    ("match: {model: 4.1}", "6:20: routes[0].match.model: expected text, found 4.1: put it in quotes"),
    ("match: {model: []}", "6:20: routes[0].match.model: an empty list: name at least one"),
    ("match: {model: }", "6:13: routes[0].match.model: " + NO_VALUE),
    ("match: {model: {a: b}}", "6:20: routes[0].match.model: expected a list, found a map"),
    ("match:", "6:5: routes[0].match: " + NO_VALUE),
    ("match: {modle: a}", "6:13: routes[0].match.modle: unknown key; did you mean `model`?"),
    ("match: {operation: chatt}", "6:24: routes[0].match.operation: unknown operation `chatt`; did you mean `chat`?"),
    ("match: {operation: [chat, embedings]}",
     "6:31: routes[0].match.operation[1]: unknown operation `embedings`; did you mean `embeddings`?"),
    ("match: {client: 10.0.0.0/99}", "6:21: routes[0].match.client: "
     "expected an address or network such as 10.0.0.0/8, found `10.0.0.0/99`"),
    ("match: {header: {x-env: [a, 5]}}",
     "6:33: routes[0].match.header.x-env[1]: expected text, found 5: put it in quotes"),
    (f"match: {{path: {'/a' * 257}}}",
     f"6:19: routes[0].match.path: expected a pattern of at most 512 characters, found `{'/a' * 40}…`"),
    ("strategy: weighed",
     f"6:15: routes[0].strategy: {STRATEGIES}, found `weighed`; did you mean `weighted`?"),
    ("stratgy: weighted", "6:5: routes[0].stratgy: unknown key; did you mean `strategy`?"),
    ("force: {a: 1}", "6:5: routes[0].force: unknown key; expected one of targets, strategy, fallback, retry, timeout, "
     "sticky, guardrails, cache, priority, strict, stream, continue, min_rate, heartbeat, hedge, shadow, canary, vision, "
     "files, require_project, capture, refuse, name, match, set, default"),
    ("fallback: {provider: openai}", "6:15: routes[0].fallback: expected a list, found a map"),
    ("fallback: [{provider: opnai}]",
     "6:27: routes[0].fallback[0].provider: unknown provider `opnai`; did you mean `openai`?"),
    ("fallback: [{provider: zzz}]",
     "6:27: routes[0].fallback[0].provider: unknown provider `zzz`; it has to stand under `providers`"),
    ("fallback: [{model: a}]", "6:16: routes[0].fallback[0].provider: missing"),
    ("set: [a]", "6:10: routes[0].set: expected a map, found a list"),
    ("set: {x: .inf}",
     "6:14: routes[0].set.x: infinity and not-a-number are not allowed: put it in quotes if it is a name"),
    ("set: {x: 1e999}", "6:14: routes[0].set.x: the number is too large: put it in quotes if it is a name"),
    ("set: {x: 18446744073709551616}",
     "6:14: routes[0].set.x: the number has more than 64 bits: put it in quotes if it is a name"),
    ("name: b", "6:5: routes[0].name: given twice, first at rules.yaml:4:5"),
    ("match: {project: support}",
     "6:22: routes[0].match.project: unknown project `support`; it has to stand under `projects`"),
    ("match: {project: ['*', x]}",
     "6:28: routes[0].match.project[1]: unknown project `x`; it has to stand under `projects`"),
    ("match: {tag: a}", "6:18: routes[0].match.tag: expected a map, found `a`"),
    ("match: {tag: {a b: c}}", f'6:19: routes[0].match.tag["a b"]: {NAME} as the key'),
    ("match: {task: []}", "6:19: routes[0].match.task: an empty list: name at least one"),
    ("match: {tenant: 5}", "6:21: routes[0].match.tenant: expected text, found 5: put it in quotes"),
    ("match: {not: {}}", "6:18: routes[0].match.not: an empty map would leave nothing to match: give it a key"),
    ("match: {not: {not: {model: a}}}", f"6:19: routes[0].match.not.not: unknown key; expected one of {MATCH}"),
    ("match: {not: {project: x}}",
     "6:28: routes[0].match.not.project: unknown project `x`; it has to stand under `projects`"),
    ("match: {exclude: {model: a}}", f"6:13: routes[0].match.exclude: unknown key; expected one of {MATCH}, not"),
    ("match: {when: true}", "6:19: routes[0].match.when: expected a condition in CEL, as text, found true"),
    ("match: {when: ''}", "6:19: routes[0].match.when: expected a condition in CEL, found `` in quotes"),
    ("match: {when: request.sream == false}",
     "6:19: routes[0].match.when: at character 8: unknown name `request.sream`; did you mean `request.stream`?"),
    ("match: {when: request.stream == }", "6:19: routes[0].match.when: at character 18: not CEL: mismatched input '<EOF>'"),
    ("match: {when: size(request.messages)}", "6:19: routes[0].match.when: the condition gives INT, not true or false"),
    (f"match: {{when: '{'true && ' * 300}true'}}",
     "6:19: routes[0].match.when: the condition is longer than 2048 characters: split the route"),
    ("match: {when: '${PASSWORD}'}",
     "6:19: routes[0].match.when: not a condition in CEL once the environment is put in"),
    ("sticky: cookie:a", "6:13: routes[0].sticky: expected header:NAME, body:NAME or conversation, found `cookie:a`"),
    ("sticky: [conversation, 'body:metadata.user']",
     "6:28: routes[0].sticky[1]: expected header:NAME, body:NAME or conversation, found `body:metadata.user`"),
    ("sticky: []", "6:13: routes[0].sticky: an empty list: name at least one"),
    ("guardrails: [pii]", "6:18: routes[0].guardrails[0]: unknown guardrail `pii`; it has to stand under `guardrails`"),
    ("guardrails: pii", "6:17: routes[0].guardrails: expected a list, found `pii`"),
    ("guardrails: [5]",
     "6:18: routes[0].guardrails[0]: expected a guardrail's name, or a map with use, action, found 5"),
    ("guardrails: [{action: block}]", "6:18: routes[0].guardrails[0].use: missing"),
    ("guardrails: [{use: pii, actoin: block}]",
     "6:24: routes[0].guardrails[0].use: unknown guardrail `pii`; it has to stand under `guardrails`\n"
     "6:29: routes[0].guardrails[0].actoin: unknown key; did you mean `action`?"),
    ("cache: true", "6:12: routes[0].cache: expected false, or a map with ttl, scope, found true"),
    ("cache: {scope: project}", "6:5: routes[0].cache.ttl: missing"),
    ("cache: {ttl: 1h, scope: all}",
     "6:29: routes[0].cache.scope: expected project, tenant, consumer or public, found `all`"),
    ("priority: low", "6:15: routes[0].priority: expected interactive or batch, found `low`"),
    ("stream: buffer", "6:13: routes[0].stream: expected pass or whole, found `buffer`"),
    ("strict: yes", "6:13: routes[0].strict: expected true or false, found `yes`"),
    ("continue: on", "6:15: routes[0].continue: expected true or false, found `on`"),
    ("continued: true", "6:5: routes[0].continued: unknown key; did you mean `continue`?"),
    ("min_rate: 20/s", "6:15: routes[0].min_rate: expected a whole number from 1 to 1000000, found `20/s`"),
    ("heartbeat: 15", f"6:16: routes[0].heartbeat: {DURATION}, found 15: write `15s` or `15ms`"),
    ("hedge: {targets: []}", "6:5: routes[0].hedge.after: missing"),
    ("hedge: {after: 2s, targets: [{provider: opneai}]}",
     "6:45: routes[0].hedge.targets[0].provider: unknown provider `opneai`; did you mean `openai`?"),
    ("shadow: {share: 5%}", "6:5: routes[0].shadow.targets: missing"),
    ("shadow: {targets: [{provider: openai}], share: 0.05}", f"6:52: routes[0].shadow.share: {PERCENT}, found 0.05"),
    ("canary: {targets: [{provider: openai}], share: 101%}", f"6:52: routes[0].canary.share: {PERCENT}, found `101%`"),
    ("canary: {targets: [{provider: openai}], share: 10%, abort_if: {over: 20}}",
     "6:57: routes[0].canary.abort_if.error_rate: missing"),
    ("vision: {describe_with: {provider: openai}}", "6:13: routes[0].vision: expected describe or pass, found a map"),
    ("files: keep", "6:12: routes[0].files: expected store or pass, found `keep`"),
    ("capture: all", "6:14: routes[0].capture: expected none, redacted or full, found `all`"),
    ("require_project: 1", "6:22: routes[0].require_project: expected true or false, found 1"),
    ("refuse: {message: gone}", "4:5: routes[0]: `refuse` asks nobody: leave `targets` and `fallback` out"),
]

OTHER_ROUTES = [
    ("  - targets: [{provider: openai}]", "4:5: routes[0].name: missing"),
    ("  - name: a", "4:5: routes[0].targets: missing"),
    ("  - {name: a, targets: []}", "4:24: routes[0].targets: an empty list: name at least one"),
    ("  - {name: a b, targets: [{provider: openai}]}", f"4:12: routes[0].name: {NAME}, found `a b`"),
    (f"  - {{name: {'a' * 65}, targets: [{{provider: openai}}]}}", f"4:12: routes[0].name: {NAME}, found `{'a' * 65}`"),
    ("  - {name: a, targets: [{provider: openai}]}\n  - {name: a, targets: [{provider: openai}]}",
     "5:12: routes[1].name: the name `a` is given twice, first at rules.yaml:4:12"),
    ("  - {name: a, strategy: weighted, targets: [{provider: openai, weight: 0}]}",
     "4:5: routes[0]: all targets have weight 0: none would ever be chosen"),
    ("  - {name: a, refuse: {status: 200, message: no}}",
     "4:32: routes[0].refuse.status: expected a whole number from 400 to 599, found 200"),
    ("  - {name: a, refuse: {}}", "4:15: routes[0].refuse.message: missing"),
    ("  - {name: a, targets: [{provider: openai, max_concurrency: 0}]}",
     "4:61: routes[0].targets[0].max_concurrency: expected a whole number from 1 to 1000000, found 0"),
    ("  - {name: a, targets: [{provider: openai, region: eu}]}",
     "4:44: routes[0].targets[0].region: unknown key; expected one of provider, model, weight, priority, base_model, "
     "max_concurrency, set, default"),
    ("  - {name: a, targets: [{provider: openai, set: [a]}]}",
     "4:49: routes[0].targets[0].set: expected a map, found a list"),
]

# Rules of which the lines given are line 2 and those after it.
GOVERNING = [
    ("workers: 0", "2:10: workers: expected a whole number from 1 to 256, found 0"),
    ("workers: auto", "2:10: workers: expected a whole number from 1 to 256, found `auto`"),
    ("state: {database: mysql://hunter2@db/x}",
     "2:19: state.database: expected an address that begins with sqlite:/// or postgresql://, found something else"),
    ("state: {counters: 6379}",
     "2:19: state.counters: expected an address that begins with memory://, redis:// or rediss://, found a number"),
    ("state: {blobs: var/blobs}",
     "2:16: state.blobs: expected an address that begins with file:// or s3://, found something else"),
    ("state: {replicas: 3}", "2:19: state.replicas: expected single or shared, found 3"),
    ("state: {on_error: {limits: ignore}}",
     "2:28: state.on_error.limits: expected allow or refuse, found `ignore`"),
    ("state: {on_error: {session: allow}}", "2:20: state.on_error.session: unknown key; did you mean `sessions`?"),
    ("aliases: {gpt-4: 5}", "2:18: aliases.gpt-4: expected a model, or a map with model, match, found 5"),
    ("aliases: {gpt-4: {match: {host: a}}}", "2:11: aliases.gpt-4.model: missing"),
    ("aliases: {gpt-4: {model: a, match: {modle: b}}}",
     "2:37: aliases.gpt-4.match.modle: unknown key; did you mean `model`?"),
    ("aliases: {gpt-4: }", "2:11: aliases.gpt-4: " + NO_VALUE),
    (f"aliases: {{{'a' * 513}: b}}",
     f"2:11: aliases.{'a' * 80}…: expected a pattern of at most 512 characters as the key"),
    ("aliases: [a]", "2:10: aliases: expected a map, found a list"),
    ("answer_model: real", "2:15: answer_model: expected asked or served, found `real`"),
    ("builtin_routes: models", "2:17: builtin_routes: expected a list, found `models`"),
    ("builtin_routes: [model]", "2:18: builtin_routes[0]: expected models, provider, auto, original or catalogue, "
     "found `model`; did you mean `models`?"),
    ("unknown_operations: allow", "2:21: unknown_operations: expected pass or refuse, found `allow`"),
    ("policies: [{name: p}]", "2:12: policies[0]: expected at least one of allow, guardrails, refuse"),
    ("policies: [{allow: {regions: eu}}]", "2:12: policies[0].name: missing"),
    ("policies: [{name: p, allow: {}}]", "2:29: policies[0].allow: expected at least one of regions, providers, models"),
    ("policies: [{name: p, for: {zone: outside}, allow: {models: a}}]",
     "2:34: policies[0].for.zone: expected external or internal, found `outside`"),
    ("policies: [{name: p, target: {zone: internal}, allow: {models: a}}]",
     "2:22: policies[0].target: unknown key; expected one of name, match, for, allow, guardrails, refuse"),
    ("policies: [{name: p, allow: {region: eu}}]",
     "2:30: policies[0].allow.region: unknown key; did you mean `regions`?"),
    ("policies: [{name: p, guardrails: [{use: pii, action: block}]}]",
     "2:41: policies[0].guardrails[0].use: unknown guardrail `pii`; it has to stand under `guardrails`"),
    ("policies:\n- {name: p, allow: {models: a}}\n- {name: p, allow: {models: b}}",
     "4:10: policies[1].name: the name `p` is given twice, first at rules.yaml:3:10"),
    ("client_may: {fallback: gpt-4}",
     "2:24: client_may.fallback: expected true, false or a list of model patterns, found `gpt-4`"),
    ("client_may: {fallback: []}", "2:24: client_may.fallback: an empty list: name at least one"),
    ("client_may: {fallback: [4]}", "2:25: client_may.fallback[0]: expected text, found 4: put it in quotes"),
    ("client_may: {retries: 6}", "2:23: client_may.retries: expected a whole number from 0 to 5, found 6"),
    ("client_may: {cache: ask}", "2:21: client_may.cache: expected true or false, found `ask`"),
    ("client_may:", "2:1: client_may: " + NO_VALUE),
    ("guardrails: {g: {on: [request]}}", "2:14: guardrails.g.check: missing"),
    ("guardrails: {g: {check: pii, on: both}}", "2:34: guardrails.g.on: expected a list, found `both`"),
    ("guardrails: {g: {check: pii, on: [reply]}}",
     "2:35: guardrails.g.on[0]: expected request or response, found `reply`"),
    ("guardrails: {g: {check: pii, action: mask}}",
     "2:38: guardrails.g.action: expected redact, block or flag, found `mask`"),
    ("guardrails: {g: {check: pii, entities: []}}", "2:40: guardrails.g.entities: an empty list: name at least one"),
    ("guardrails: {g: {check: pii, threshold: 80%}}",
     "2:41: guardrails.g.threshold: expected a number from 0 to 1, found `80%`"),
    ("guardrails: {g: {check: pii, threshold: 1.5}}",
     "2:41: guardrails.g.threshold: expected a number from 0 to 1, found 1.5"),
    ("guardrails: {g: {check: schema_validation}}", "2:17: guardrails.g: `check: schema_validation` needs a `schema`"),
    ("guardrails: {g: {check: schema_validation, schema: ../../key}}",
     f"2:52: guardrails.g.schema: {INSIDE}, found `../../key`"),
    ("guardrails: {g: {check: schema_validation, schema: /etc/passwd}}",
     f"2:52: guardrails.g.schema: {INSIDE}, found `/etc/passwd`"),
    ("guardrails: {g: {check: pii, schema_path: a}}", "2:30: guardrails.g.schema_path: unknown key; did you mean `schema`?"),
    ("guardrails: {g: {check: pii, restore: true}}",
     "2:17: guardrails.g: `restore` puts back what was redacted: it needs `action: redact`"),
    ("guardrails: {g: {check: pii, action: redact, restore: tools}}",
     "2:55: guardrails.g.restore: expected true, false or a map with `in`, found `tools`"),
    ("guardrails: {g: {check: pii, action: redact, restore: {in: [urls]}}}",
     "2:61: guardrails.g.restore.in[0]: expected tools, found `urls`"),
    ("tiers: {free: {rpd: 5}}", "2:16: tiers.free.rpd: unknown key; did you mean `rpm`?"),
    ("tiers: {free: {shared: true}}", "2:15: tiers.free: expected at least one of rpm, tpm, concurrency"),
    ("tiers: {free: {rpm: 60/m}}", "2:21: tiers.free.rpm: expected a whole number from 1 to 1000000000000, found `60/m`"),
    ("projects: {p: {id: 12}}",
     "2:20: projects.p.id: expected a UUID such as 6f1c2f7e-6d0b-4c0e-9a39-7f3a3d0f5b11, found 12"),
    ("projects:\n  p: {id: 6f1c2f7e-6d0b-4c0e-9a39-7f3a3d0f5b11}\n  q: {id: 6F1C2F7E-6D0B-4C0E-9A39-7F3A3D0F5B11}",
     "4:11: projects.q.id: the id is given twice, first at rules.yaml:3:11"),
    ("projects: {p: {kind: gateway}}", "2:22: projects.p.kind: expected ai_gateway or wrapper, found `gateway`; "
     "did you mean `ai_gateway`?"),
    ("projects: {p: {kind: wrapper, endpoints: {e: {}}}}",
     "2:15: projects.p: a project of `kind: wrapper` has no endpoints"),
    ("tiers: {gold: {rpm: 5}}\nprojects: {p: {tier: glod}}",
     "3:22: projects.p.tier: unknown tier `glod`; did you mean `gold`?"),
    ("projects: {p: {identify: {}}}",
     "2:26: projects.p.identify: expected at least one of client, header, proxy_user"),
    ("projects: {p: {identify: {client: 10.0.0.0/40}}}", "2:35: projects.p.identify.client: "
     "expected an address or network such as 10.0.0.0/8, found `10.0.0.0/40`"),
    ("projects: {unknown: {identify: {client: 10.0.0.0/8}}}", "2:22: projects.unknown.identify: `unknown` are those "
     "that no project identifies: leave `identify` out, or give the project another name"),
    ("projects: {p: {allow: {}}}", "2:23: projects.p.allow: expected at least one of regions, providers, models"),
    ("projects: {p: {allow: {models: []}}}", "2:32: projects.p.allow.models: an empty list: name at least one"),
    ("projects: {p: {budget: {}}}", "2:24: projects.p.budget: expected at least one of monthly_usd, request_tokens"),
    ("projects: {p: {budget: {monthly_usd: 50 USD}}}",
     "2:38: projects.p.budget.monthly_usd: expected a number, at least 0, found `50 USD`"),
    ("projects: {p: {client_may: {name_provider: true}}}",
     "2:44: projects.p.client_may.name_provider: a project only tightens: `client_may` for all allows less"),
    ("client_may: {retries: 1, fallback: ['gpt-*']}\nprojects: {p: {client_may: {retries: 2}}}",
     "3:38: projects.p.client_may.retries: a project only tightens: `client_may` for all allows less"),
    ("client_may: {fallback: ['gpt-*']}\nprojects: {p: {client_may: {fallback: true}}}",
     "3:39: projects.p.client_may.fallback: a project only tightens: `client_may` for all allows less"),
    ("projects: {p: {endpoints: {a/b: {}}}}", f"2:28: projects.p.endpoints.a/b: {NAME} as the key"),
    ("projects: {p: {endpoints: {e: {input_schema: schemas/../../x}}}}",
     f"2:46: projects.p.endpoints.e.input_schema: {INSIDE}, found `schemas/../../x`"),
    ("projects: {p: {endpoints: {e: {guardrails: [x]}}}}",
     "2:45: projects.p.endpoints.e.guardrails[0]: unknown guardrail `x`; it has to stand under `guardrails`"),
    ("projects: [p]", "2:11: projects: expected a map, found a list"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 500, per: month}]", f"2:45: budgets[0].limit: {MONEY}, found 500"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 500 EUR, per: month}]",
     f"2:45: budgets[0].limit: {MONEY}, found `500 EUR`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: $500, per: month}]", f"2:45: budgets[0].limit: {MONEY}, found `$500`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: year}]",
     "2:57: budgets[0].per: expected day, week or month, found `year`"),
    ("budgets: [{name: b, of: {tenant: t, tag: {a: b}}, limit: 5 USD, per: day}]",
     "2:25: budgets[0].of: expected exactly one of tag, project, tenant"),
    ("budgets: [{name: b, of: {tag: {}}, limit: 5 USD, per: day}]", "2:25: budgets[0].of: `tag: {}` names no tag"),
    ("budgets: [{name: b, of: {project: x}, limit: 5 USD, per: day}]",
     "2:35: budgets[0].of.project: unknown project `x`; it has to stand under `projects`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, timezone: Berlin}]",
     "2:72: budgets[0].timezone: expected a time zone such as Europe/Berlin or UTC, found `Berlin`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, timezone: ../../etc/passwd}]",
     "2:72: budgets[0].timezone: expected a time zone such as Europe/Berlin or UTC, found `../../etc/passwd`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, warn: [0.8]}]",
     f"2:69: budgets[0].warn[0]: {PERCENT}, found 0.8"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, notify: [ops]}]",
     "2:71: budgets[0].notify[0]: unknown receiver `ops`; it has to stand under `notify`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, when_spent: stop}]",
     "2:74: budgets[0].when_spent: expected `refuse` or a map with route_to, found `stop`"),
    ("budgets: [{name: b, of: {tenant: t}, limit: 5 USD, per: day, when_spent: {route_to: cheap}}]",
     "2:85: budgets[0].when_spent.route_to: unknown model `cheap`; it has to stand under `models`"),
    ("budgets: [{name: b, limit: 5 USD}]", "2:11: budgets[0].of: missing\n2:11: budgets[0].per: missing"),
    ("prompts: {source: langfuse}", "2:10: prompts: `source: langfuse` needs host, public_key and secret_key"),
    ("prompts: {host: https://langfuse.example}",
     "2:10: prompts: host, public_key and secret_key belong to `source: langfuse`"),
    ("prompts: {source: langfuse, host: https://l.example, public_key: client, secret_key: {env: S}}",
     "2:66: prompts.public_key: the caller's key belongs to calls: name a secret of the gateway's own"),
    ("prompts: {source: langfuse, host: https://l.example, public_key: hunter2, secret_key: {env: S}}",
     "2:66: prompts.public_key: expected `client` or a map with one of env, file, value, vault, found something else"),
    ("pipelines: {d: {steps: []}}", "2:24: pipelines.d.steps: an empty list: name at least one"),
    ("pipelines: {d: {steps: [{}]}}", "2:25: pipelines.d.steps[0]: expected exactly one of transcribe, chat, speak"),
    ("pipelines: {d: {steps: [{chat: {}, speak: {}}]}}",
     "2:25: pipelines.d.steps[0]: expected exactly one of transcribe, chat, speak"),
    ("pipelines: {d: {steps: [{speak: {}}, {chat: {}}]}}",
     "2:16: pipelines.d: the steps do not fit: one gives audio, and the next does not take it"),
    ("pipelines: {d: {steps: [{transcribe: {}}, {transcribe: {}}]}}",
     "2:16: pipelines.d: the steps do not fit: one gives text, and the next does not take it"),
    ("pipelines: {d: {steps: [{translate: {}}]}}",
     "2:26: pipelines.d.steps[0].translate: unknown key; did you mean `transcribe`?"),
    ("vision: {}", "2:1: vision.describe_with: missing"),
    ("vision: {describe_with: {provider: openai}}",
     "2:36: vision.describe_with.provider: unknown provider `openai`; it has to stand under `providers`"),
    ("telemetry: {log: text}", "2:18: telemetry.log: expected json or none, found `text`"),
    ("telemetry: {otlp: collector:4317}", f"2:19: telemetry.otlp: {URL}, found something else"),
    ("telemetry: {otlp: }", "2:13: telemetry.otlp: " + NO_VALUE),
    ("telemetry: {payloads: null}", "2:13: telemetry.payloads: " + NO_VALUE),
    ("retention: {records: 1 month}", f"2:22: retention.records: {DURATION}, found `1 month`"),
    ("retention: {records: forever}", f"2:22: retention.records: {DURATION}, found `forever`"),
    ("notify: {ops: {on: [budget_warning]}}", "2:10: notify.ops.webhook: missing"),
    ("notify: {ops: {webhook: {url: hunter2}}}", f"2:31: notify.ops.webhook.url: {URL}, found something else"),
    ("notify: {ops: {webhook: {url: https://h.example}, on: [budget_warnings]}}", "2:56: notify.ops.on[0]: expected "
     "budget_warning, target_down or rules_rejected, found `budget_warnings`; did you mean `budget_warning`?"),
    ("notify: {ops: {webhook: {url: https://h.example, secret: {client: true}}}}",
     "2:58: notify.ops.webhook.secret: the caller's key belongs to calls: name a secret of the gateway's own"),
]

YAML = [
    ("a: 1\n\tb: 2\n", "2:1: a tab: indent with spaces"),
    ("a: !!str x\n", f"1:4: a: {TAGS}"),
    ("a: !x y\n", f"1:4: a: {TAGS}"),
    ("a: [b, !!python/name:os.system x]\n", f"1:8: a[1]: {TAGS}"),
    ("a: !x!y z\n", f"1:4: {TAGS}"),
    ("a: !request.stream\n", f"1:4: a: {TAGS}"),
    ("a: {when: !request.stream}\n", f"1:11: {TAGS}"),
    ('a: {when: !"tools" in request.given}\n', f"1:11: {TAGS}"),
    ("a: &x [*x]\n", "1:8: a[0]: `*x` stands inside the value that it repeats"),
    ("a: *y\n", "1:4: a: no `&y` stands before this `*y`; text that begins with `*` must be in quotes"),
    ("a: [1\n", "1:4: a list in brackets that is not closed, or holds text that must be in quotes"),
    ("a: {b\n", "1:4: a map in braces that is not closed, or holds text that must be in quotes"),
    ("a: [\n", "2:1: the file ends where a value is expected: a list or map is not closed"),
    ("a: [,]\n", "1:5: a value is expected here: text that begins with a sign must be in quotes"),
    ("a: 'x\n", "1:4: a text in quotes that is not closed"),
    ("a: b: c\n", "1:5: a `key:` where none is expected: check the indentation, or quote the text"),
    ("a: @x\n", "1:4: text that begins with `@` must be in quotes"),
    ("a: 1\n---\nb: 2\n", "2:1: a second document: one file holds one, without `---` inside it"),
    ('a: "\\ud800"\n', "1:4: a: half of a surrogate pair: write the character itself"),
    ('a: "\\UFFFFFFFF"\n', "1:1: not YAML: an escape or directive that is out of range"),
    ('a: "\\q"\n', "1:6: an unknown `\\` sequence: use single quotes, where `\\` has no meaning"),
    ("a: 1\nb: \x00\n", "2:4: the control character U+0000 is not allowed"),
    ("%YAML 1.1\n---\na: 1\n", "2:1: `%YAML` other than 1.2 is not supported: leave the line out"),
    ("? [a]\n: b\n", "1:3: a key must be plain text, not an alias, a map or a list"),
]


def messages(folder: Path, text: str) -> list[str]:
    """All problems of one file."""
    (folder / "rules.yaml").write_bytes(text.encode())
    with pytest.raises(RulesError) as caught:
        load(folder, ENVIRON, VENDORS, DIALECTS)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("text", "expected"), WHOLE + YAML)
def test_a_wrong_file(tmp_path: Path, text: str, expected: str) -> None:
    assert messages(tmp_path, text) == [f"rules.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), PROVIDERS)
def test_a_wrong_provider(tmp_path: Path, text: str, expected: str) -> None:
    found = messages(tmp_path, provider(text))
    assert found == [f"rules.yaml:{expected}"]
    assert "hunter2" not in found[0]


@pytest.mark.parametrize(("line", "expected"), ROUTES)
def test_a_wrong_route(tmp_path: Path, line: str, expected: str) -> None:
    assert messages(tmp_path, route(line)) == [f"rules.yaml:{each}" for each in expected.split("\n")]


@pytest.mark.parametrize(("text", "expected"), OTHER_ROUTES)
def test_wrong_routes(tmp_path: Path, text: str, expected: str) -> None:
    found = messages(tmp_path, f"version: 1\nproviders: {{openai: {{}}}}\nroutes:\n{text}\n")
    assert found == [f"rules.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), GOVERNING)
def test_what_governs_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    found = messages(tmp_path, f"version: 1\n{text}\n")
    assert found == [f"rules.yaml:{line}" for line in expected.split("\n")]
    assert "hunter2" not in "".join(found)


def test_all_problems_are_told_at_once_and_in_order(tmp_path: Path) -> None:
    text = "unmatched: no\nproviders:\n  a b: {}\nroutes:\n  - {name: x, targets: [{provider: y}], retry: {max: 9}}\n"
    assert messages(tmp_path, text) == [
        "rules.yaml:1:1: version: missing: write `version: 1`",
        "rules.yaml:1:12: unmatched: expected pass or refuse, found `no`",
        f'rules.yaml:3:3: providers["a b"]: {NAME} as the key',
        'rules.yaml:3:3: providers["a b"].base_url: missing: mitmgate knows no address for `a b`',
        "rules.yaml:5:36: routes[0].targets[0].provider: unknown provider `y`; it has to stand under `providers`",
        "rules.yaml:5:54: routes[0].retry.max: expected a whole number from 0 to 5, found 9",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: \xff\n", "1:4: not UTF-8: save the file as UTF-8"),
        (b"a: b\nc: d\xe4\n", "2:5: not UTF-8: save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "1:1: the file is UTF-16: save it as UTF-8"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "rules.yaml").write_bytes(content)
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {})
    assert [str(p) for p in caught.value.problems] == [f"rules.yaml:{expected}"]
