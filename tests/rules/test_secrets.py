"""What rules must never show, and where credentials must not go."""

from pathlib import Path

import pytest
from written import problems, rules


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    text = """\
version: 1
egress: {proxy: http://proxy.corp:3128, credential: {value: hunter2-egress}}
providers:
  openai: {credential: {value: "${KEY}"}}
  groq: {credential: [{value: hunter2-first}, {value: "hunter2-second"}]}
"""
    loaded = rules(tmp_path, {"KEY": "hunter2-environment"}, a=text)
    dumps = [str(loaded.model_dump()), loaded.model_dump_json()]
    shown = [repr(loaded), str(loaded), *dumps, str(dict(loaded.where))]
    assert not [each for each in shown if "hunter2" in each]
    wrong = "access: '${KEY}'\nunmatched: '${KEY}'\nxx: '${KEY}'\n"
    found = problems(tmp_path, {"KEY": "hunter2-environment"}, a=text + wrong)
    assert len(found) == 3
    assert "hunter2" not in "".join(found)


def test_errors_carry_no_terminal_codes(tmp_path: Path) -> None:
    found = problems(tmp_path, a='version: 1\n"x\\e[2J\\nfake.yaml:1:1: fine": 1\naccess: "\\e[31m"\n')
    assert len(found) == 2
    assert all(character.isprintable() for line in found for character in line)


@pytest.mark.parametrize(
    "provider",
    [
        "{base_url: http://127.0.0.2:8000, credential: {env: A}}",
        "{base_url: 'http://[::1]:8000', credential: {env: A}}",
        "{base_url: http://10.0.0.7, credential: {env: A}, zone: internal}",
        "{base_url: http://10.0.0.7}",
        "{base_url: https://10.0.0.7, credential: {env: A}}",
    ],
)
def test_where_a_credential_may_go(tmp_path: Path, provider: str) -> None:
    assert rules(tmp_path, main=f"version: 1\nproviders:\n  own: {provider}\n").providers["own"].base_url


def test_the_vendors_own_credential_counts_too(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, main="version: 1\nproviders:\n  openai: {base_url: http://api.openai.com/v1}\n")
    assert found.startswith("main.yaml:3:22: providers.openai.base_url: a credential would travel in clear text")
