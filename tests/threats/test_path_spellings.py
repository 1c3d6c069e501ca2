"""THREATS row 1: sixty and more spellings of one path. None reaches an upstream but as the governed endpoint."""

import pytest
from attacked import ASK, JSON, PATH, call, careless, provider, recorded, refused, rules, tunnelled

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http2

GOVERNED = (
    "/v1/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat/completions?",
    "/v1/chat/completions?a=//../%2f",
    "/v1/chat/completions/?x=1",
    "/v1/%63hat/completions",
    "/v1/c%68at/completion%73",
    "/%76%31/chat/completions",
    "/v1/chat/%63%6f%6D%70%6C%65%74%69%6f%6e%73",
    "/v1/%63%68%61%74/%63ompletions/",
    "/v1/chat/completions \t",  # RFC 9112, section 3: words may be parted by any white space
    "/openai/v1/chat/completions",
    "/api/v1/chat/completions",
    "/openai/deployments/m/chat/completions?api-version=2024-10-21",
)
AMBIGUOUS = (
    "//v1/chat/completions",
    "///v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/chat/completions//",
    "//v1/./chat%2Fcompletions",
    "/./v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/.",
    "/v1/chat/completions/./",
    "/v1/chat/completions/x/..",
    "/v1/x/../chat/completions",
    "/../v1/chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/x/%2e%2e/chat/completions",
    "/v1/x/.%2E/chat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1%2fchat%2fcompletions",
    "/%2fv1/chat/completions",
    "/v1/chat/completions%2f",
    "/v1/chat%5ccompletions",
    "/v1\\chat\\completions",
    "/v1/..\\chat/completions",
    "/v1/chat/completions;x=1",
    "/v1;/chat/completions",
    "/v1/chat/completions%3bx",
    "/v1/chat/completions%3Fx",
    "/v1/chat/completions%23",
    "/v1/chat/completions#x",
    "/v1/chat/completions?x#y",
    "/v1/chat/completions%00",
    "/v1/chat%0d%0acompletions",
    "/v1/chat/completions%0a",
    "/v1/chat%09/completions",
    "/v1/chat/completions%7f",
    "/v1/ch%2561t/completions",
    "/v1/chat%252fcompletions",
    "/v1/chat/completions%",
    "/v1/chat/completions%2",
    "/v1/chat/completions%zz",
    "/v1/chat/completions%u002f",
    "/v1/chat/completions%c0%af",
    "/v1/%c0%ae%c0%ae/v1/chat/completions",
    "/v1/chat/completions%ff",
    "/v1/chat%EF%BC%8Fcompletions",
    "/v1/%EF%BD%83hat/completions",
    "/v1/chat/completion%C5%BF",
    "/v1/chat/completions%E2%80%8B",
    "/v1/chat/completions%C2%85",
    "/v1/ch\xe4t/completions",
    "/v1/chat/completions\x00",
    "/v1/chat\t/completions",
    "/v1/chat/completions x",
    "/V1/chat/completions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/Chat/Completions",
    "/v1/%43hat/completions",
    "/OpenAI/deployments/m/chat/completions",
    "/v1/chat/completions?" + "x" * (9 << 10),
    "v1/chat/completions",
    "?v1/chat/completions",
)
ELSEWHERE = (
    "/v1/chat/completions.",
    "/v1/chat/completions%2e",
    "/v1/chat/completions%20",
    "/v1/.chat/completions",
    "/v1/.../chat/completions",
    "/v1/chat/completions&x",
    "/v1/chat/completions/x",
    "/v1/chat%2bcompletions",
    "/v2/chat/completions",
    "/chat/completions",
    "/",
)
"""Other paths, and known as such: no route has them, and nothing that is not named passes."""


class Stand:
    """A gateway that governs chat alone, the provider, and the place to which the intercepted client wanted to go."""

    def __init__(self, gateway: Gateway, served: Upstream, wanted: Upstream) -> None:
        self.gateway, self.served, self.wanted = gateway, served, wanted
        self.there = f"localhost:{wanted.port}"

    def forget(self) -> "Stand":
        """Ready for the next spelling."""
        self.served.script(does.ok())
        self.wanted.script(does.ok("ungoverned"))
        return self


@pytest.fixture(scope="module")
def whole_stand(shared_gateway: StartGateway, shared_upstream: StartUpstream) -> Stand:
    served, wanted = shared_upstream(does.ok()), shared_upstream(does.ok(), tls=True)
    # `localhost` is decrypted, and would be reached if anything passed as it came: its listener would see it.
    gateway = shared_gateway(rules(provider(served), intercept=["llm.test", "localhost"], unmatched="refuse"))
    return Stand(gateway, served, wanted)


@pytest.fixture
def stand(whole_stand: Stand) -> Stand:
    return whole_stand.forget()


def both_ways(spellings: tuple[str, ...]) -> pytest.MarkDecorator:
    cases = [pytest.param(each, way, id=f"{way}-{each[:40]!a}") for each in spellings for way in ("direct", "intercepted")]
    return pytest.mark.parametrize(("spelling", "way"), cases)


def test_there_are_sixty_and_each_is_another() -> None:
    spellings = (*GOVERNED, *AMBIGUOUS, *ELSEWHERE)
    assert len(set(spellings)) == len(spellings)
    assert len(spellings) >= 60


@both_ways(GOVERNED)
async def test_what_normalises_is_governed(stand: Stand, spelling: str, way: str) -> None:
    """It arrives under the one spelling, with the provider that the route names."""
    answer = await call(stand.gateway, spelling, through=stand.there if way == "intercepted" else None)
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat"), answer
    (request,) = stand.served.requests
    assert request.path.partition("?")[0] == PATH
    assert stand.wanted.untouched


@both_ways(AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_refused(stand: Stand, spelling: str, way: str) -> None:
    answer = await call(stand.gateway, spelling, through=stand.there if way == "intercepted" else None)
    refused(answer, 400, "invalid_request")
    assert stand.served.untouched
    assert stand.wanted.untouched


@both_ways(ELSEWHERE)
async def test_other_paths_are_not_governed_and_not_passed(stand: Stand, spelling: str, way: str) -> None:
    answer = await call(stand.gateway, spelling, through=stand.there if way == "intercepted" else None)
    if way == "direct":
        assert answer.status == 404
        refused(answer, 404, "not_found" if recorded(stand.gateway, answer)["requested_model"] is None else "model_not_found")
    else:
        refused(answer, 403, "refused")
    assert stand.served.untouched
    assert stand.wanted.untouched


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POSTS", "BREW"])
async def test_other_methods_do_not_slip_past(stand: Stand, method: str) -> None:
    """A GET lists stored chats, so that it is let pass; with a chat in its body it is not."""
    for through in (None, stand.there):
        answer = await call(stand.gateway, method=method, through=through)
        if method == "GET":
            refused(answer, 400, "invalid_request")
            continue
        refused(answer, 405, "method_not_allowed")
        assert answer.header("allow") == "GET, POST"
    assert stand.served.untouched
    assert stand.wanted.untouched


@pytest.mark.parametrize("method", ["post", "Post", "pOST"])
async def test_a_method_in_another_case_is_the_one_that_it_is_read_as(stand: Stand, method: str) -> None:
    """Methods are case-sensitive (RFC 9110, section 9.1), which servers forget: what arrives is what was governed."""
    answer = await call(stand.gateway, method=method)
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat")
    assert [request.method for request in stand.served.requests] == ["POST"]


@pytest.mark.parametrize("name", ["x-http-method-override", "x-original-url", "x-rewrite-url", "x-forwarded-path"])
async def test_headers_do_not_rename_the_endpoint(stand: Stand, name: str) -> None:
    """What some servers take for the true path or method is none: the call is the chat that its request line says."""
    answer = await call(stand.gateway, headers=(JSON, (name, "/v1/files")))
    assert answer.header("x-gateway-route") == "chat"
    assert [request.path for request in stand.served.requests] == [PATH]


@pytest.mark.parametrize("spelling", [each for each in AMBIGUOUS if each.isprintable() and each[0] == "/"], ids=ascii)
async def test_http2_is_read_as_strictly(stand: Stand, spelling: str) -> None:
    async with tunnelled(stand.gateway, stand.there, sni="localhost", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        stream = await http2.send("POST", spelling, (JSON,), ASK, authority=stand.there)
        answer = await http2.reply(stream)
    assert answer.fault or answer.status == 400, answer
    assert stand.served.untouched
    assert stand.wanted.untouched


async def test_http2_speaks_here_at_all(stand: Stand) -> None:
    """So that the refusals above are known to be of the spelling."""
    async with tunnelled(stand.gateway, stand.there, sni="localhost", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        answer = await http2.reply(await http2.send("POST", PATH, (JSON,), ASK, authority=stand.there))
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat")
