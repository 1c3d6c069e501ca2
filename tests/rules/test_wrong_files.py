"""Wrong rules and the exact message of each, with its place."""

from pathlib import Path

import pytest

from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError

VENDORS = ("openai", "groq", "anthropic")
DIALECTS = ("openai", "anthropic", "azure", "simulator")
ENVIRON = {"NUMBER": "7", "PASSWORD": "hunter2-in-the-environment", "EMPTY": ""}

TOP = "expected one of version, listen, intercept, tunnel, unmatched, access, egress, ca, limits, providers, models, routes"
DURATION = "expected a duration such as 500ms or 5s"
SIZE = "expected a size such as 64MiB or 512KiB"
URL = "expected a URL such as https://api.example.com/v1"
ADDRESS = "expected an address such as 127.0.0.1:8080 or [::1]:8080"
NAME = "expected a name of 1 to 64 letters, digits, `.`, `_` or `-`"
NO_VALUE = "has no value: write one, or leave the key out"
TAGS = "tags (`!…`) are not allowed: write the value alone"
CREDENTIAL_KEYS = "expected one of env, file, value, client"


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
    ("version: 1\nlimits: {drain: 30}\n", f"2:17: limits.drain: {DURATION}, found 30"),
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
     "a map with one of env, file, value, found something else"),
    ("{base_url: https://a.example, credential: {sk-hunter2: }}",
     f"3:50: providers.p1.credential: unknown key; {CREDENTIAL_KEYS}"),
    ("{base_url: https://a.example, credential: {vault: x}}",
     f"3:50: providers.p1.credential.vault: unknown key; {CREDENTIAL_KEYS}"),
    ("{base_url: https://a.example, credential: {}}",
     "3:49: providers.p1.credential: expected exactly one of env, file, value, client"),
    ("{base_url: https://a.example, credential: {env: KEY, file: key}}",
     "3:49: providers.p1.credential: expected exactly one of env, file, value, client"),
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
    ("timeout: {connect: 5}", f"6:24: routes[0].timeout.connect: {DURATION}, found 5"),
    ("timeout: {connect: 5 s}", f"6:24: routes[0].timeout.connect: {DURATION}, found `5 s`"),
    ("timeout: {connect: 1.5s}", f"6:24: routes[0].timeout.connect: {DURATION}, found `1.5s`"),
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
    ("retry: {backoff: {base: 500}}", f"6:29: routes[0].retry.backoff.base: {DURATION}, found 500"),
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
     "6:15: routes[0].strategy: expected fallback, weighted or round-robin, found `weighed`; did you mean `weighted`?"),
    ("stratgy: weighted", "6:5: routes[0].stratgy: unknown key; did you mean `strategy`?"),
    ("force: {a: 1}", "6:5: routes[0].force: unknown key; expected one of targets, strategy, fallback, retry, timeout, "
     "name, match, set, default"),
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
]

YAML = [
    ("a: 1\n\tb: 2\n", "2:1: a tab: indent with spaces"),
    ("a: !!str x\n", f"1:4: a: {TAGS}"),
    ("a: !x y\n", f"1:4: a: {TAGS}"),
    ("a: [b, !!python/name:os.system x]\n", f"1:8: a[1]: {TAGS}"),
    ("a: !x!y z\n", f"1:4: {TAGS}"),
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
    assert messages(tmp_path, route(line)) == [f"rules.yaml:{expected}"]


@pytest.mark.parametrize(("text", "expected"), OTHER_ROUTES)
def test_wrong_routes(tmp_path: Path, text: str, expected: str) -> None:
    found = messages(tmp_path, f"version: 1\nproviders: {{openai: {{}}}}\nroutes:\n{text}\n")
    assert found == [f"rules.yaml:{expected}"]


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
