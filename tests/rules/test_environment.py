"""`${NAME}` in the rules."""

from pathlib import Path

from pydantic import SecretStr
from written import problems, rules

from mitmgate.rules.schema import Credential


def test_the_environment_expands(tmp_path: Path) -> None:
    environ = {"HOST": "a.example", "N": "7", "OFF": "true", "T": "0.5", "KEY": "12345", "EMPTY": "", "STATUS": "503"}
    text = """\
version: 1
access: ${ACCESS:-keys}
limits:
  concurrency: ${N}
  upload: ${EMPTY:-3}MiB
providers:
  own: {base_url: "https://${HOST}:${PORT:-8443}/v1", disabled: "${OFF}", credential: {value: "${KEY}"}}
  openai:
    disabled: ${OFF}
    credential: {value: "a$b$$c$1$${KEY}"}
    region: x${EMPTY}y
routes:
  - name: r
    match: {model: "claude/*"}
    targets: [{provider: openai, model: $1}]
    retry:
      on:
        - ${STATUS}
    set:
      temperature: ${T}
      quoted: "${T}"
      list: ["${N}"]
"""
    assert problems(tmp_path, environ, a=text) == [
        "a.yaml:7:65: providers.own.disabled: expected true or false, found `${OFF}`"
    ]
    loaded = rules(tmp_path, environ, a=text.replace('"${OFF}"', "true"))
    assert loaded.access == "keys"
    assert (loaded.limits.concurrency, loaded.limits.upload) == (7, 3 << 20)
    own, openai = loaded.providers["own"], loaded.providers["openai"]
    assert own.base_url == "https://a.example:8443/v1"
    assert type(own.base_url) is str
    assert openai.disabled is True
    assert openai.region == "xy"
    assert own.credential == Credential(value=SecretStr("12345"))
    assert openai.credential == Credential(value=SecretStr("a$b$$c$1${KEY}"))
    (route,) = loaded.routes
    assert route.targets[0].model == "$1"
    assert route.retry.on == ("503",)
    assert route.force == {"temperature": 0.5, "quoted": "0.5", "list": ["7"]}
    assert type(route.force["quoted"]) is str
