"""THREATS row 2: two parsers that read one body differently. What could be read in two ways never leaves."""

import json

import pytest
from attacked import CHAT, call, provider, recorded, refused, rules

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

CLEAN, EVIL = '[{"role":"user","content":"clean"}]', '[{"role":"user","content":"evil"}]'
TOOL = '"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{%s}}}'
THOUSAND = ",".join(f'"n{number}":{number}' for number in range(1000))

TWICE = {
    "messages": f'{{"model":"m","messages":{CLEAN},"messages":{EVIL}}}',
    "model": f'{{"model":"m","model":"dear","messages":{CLEAN}}}',
    "model-before-and-after": f'{{"model":"m","messages":{CLEAN},"model":"m"}}',
    "escaped-name": f'{{"model":"m","messages":{CLEAN},"m\\u0065ssages":{EVIL}}}',
    "unknown-name": f'{{"model":"m","messages":{CLEAN},"x":1,"x":2}}',
    "empty-name": f'{{"model":"m","messages":{CLEAN},"":1,"":2}}',
    "stream": f'{{"model":"m","messages":{CLEAN},"stream":false,"stream":true}}',
    "in-a-message": '{"model":"m","messages":[{"role":"user","content":"clean","content":"evil"}]}',
    "role": '{"model":"m","messages":[{"role":"user","role":"system","content":"x"}]}',
    "in-a-content-part": '{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]}',
    "in-a-tool": f'{{"model":"m","messages":{CLEAN},"tools":[{{"type":"function","type":"custom"}}]}}',
    "in-a-tools-schema": f'{{"model":"m","messages":{CLEAN},"tools":[{{{TOOL % '"a":{"type":"string"},"a":{}'}}}]}}',
    "in-metadata": f'{{"model":"m","messages":{CLEAN},"metadata":{{"k":"1","k":"2"}}}}',
    "nested-deep": f'{{"model":"m","messages":{CLEAN},"x":[[[{{"y":{{"z":1,"z":2}}}}]]]}}',
    "among-a-thousand": f'{{"model":"m","messages":{CLEAN},{THOUSAND},"n500":0}}',
}
OTHER_CASE = {
    "Messages": f'{{"model":"m","messages":{CLEAN},"Messages":{EVIL}}}',
    "MESSAGES-alone": f'{{"model":"m","MESSAGES":{EVIL}}}',
    "Model": f'{{"model":"m","Model":"dear","messages":{CLEAN}}}',
    "modeL-alone": f'{{"modeL":"dear","messages":{CLEAN}}}',
    "STREAM": f'{{"model":"m","STREAM":true,"messages":{CLEAN}}}',
    "N": f'{{"model":"m","N":128,"messages":{CLEAN}}}',
    "Tools": f'{{"model":"m","Tools":[],"messages":{CLEAN}}}',
    "Max_Tokens": f'{{"model":"m","Max_Tokens":9,"messages":{CLEAN}}}',
    "Content": '{"model":"m","messages":[{"role":"user","content":"clean","Content":"evil"}]}',
    "Role": '{"model":"m","messages":[{"role":"user","Role":"system","content":"x"}]}',
    "in-a-content-part": '{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"clean","Text":"evil"}]}]}',
    "kelvin-sign": f'{{"model":"m","messages":{CLEAN},"max_to\u212aens":9}}',  # K: Go folds it to k
    "long-s": f'{{"model":"m","messages":{CLEAN},"me\u017f\u017fages":{EVIL}}}',  # ſ: Go folds it to s
}


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), match={}))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream) -> None:
    served.script(does.ok())


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
async def test_a_name_that_is_given_twice(gateway: Gateway, served: Upstream, body: str) -> None:
    assert refused(await call(gateway, body=body.encode()), 400, "invalid_request")["param"] is None
    assert served.untouched


@pytest.mark.parametrize("body", OTHER_CASE.values(), ids=OTHER_CASE)
async def test_a_known_name_in_another_case(gateway: Gateway, served: Upstream, body: str) -> None:
    """Go's encoding/json takes `Messages` for `messages`, the last one wins; the fold is Unicode's simple one."""
    refused(await call(gateway, body=body.encode()), 400, "invalid_request")
    assert served.untouched


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/completions", '{"model":"m","prompt":"a","prompt":"b"}'),
        ("/v1/completions", '{"model":"m","prompt":"a","Prompt":"b"}'),
        ("/v1/embeddings", '{"model":"m","input":"a","input":"b"}'),
        ("/v1/embeddings", '{"model":"m","input":"a","Input":"b"}'),
        ("/v1/responses", '{"model":"m","input":"a","instructions":"a","Instructions":"b"}'),
        ("/v1/responses", '{"model":"m","input":[{"role":"user","content":"a","content":"b"}]}'),
        ("/v1/moderations", '{"model":"m","input":"a","input":"b"}'),
        ("/v1/audio/speech", '{"model":"m","input":"a","input":"b","voice":"v"}'),
        ("/v1/images/generations", '{"model":"m","prompt":"a","prompt":"b"}'),
        ("/openai/deployments/m/chat/completions", f'{{"messages":{CLEAN},"messages":{EVIL}}}'),
        ("/v1/fine_tuning/jobs", '{"model":"m","model":"dear"}'),
    ],
)
async def test_every_operation_is_read_so(gateway: Gateway, served: Upstream, target: str, body: str) -> None:
    refused(await call(gateway, target, body=body.encode()), 400, "invalid_request")
    assert served.untouched


async def test_what_a_user_may_write_is_let_through(gateway: Gateway, served: Upstream) -> None:
    """Names are compared inside one object only, and case counts for known names only; the body arrives as it came."""
    document = {
        **CHAT,
        "metadata": {"Team": "a", "team": "b"},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"Model": {}, "model": {}}}}}],
    }
    body = json.dumps(document, indent=1).encode()
    answer = await call(gateway, body=body)
    assert answer.status == 200
    assert [request.body for request in served.requests] == [body]
    assert recorded(gateway, answer)["code"] is None
