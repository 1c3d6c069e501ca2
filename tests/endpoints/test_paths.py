"""Path spellings: what each becomes, or that it is refused."""

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.endpoints.paths import MAX_TARGET, AmbiguousPath, normalise

CHAT = "/v1/chat/completions"

# Spellings of one path: (target, path it becomes) — a path other than CHAT is another endpoint, and known as such.
READ = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions/", CHAT),
    ("/v1/chat/completions?", CHAT),
    ("/v1/chat/completions?a=b", CHAT),
    ("/v1/chat/completions/?a=b", CHAT),
    ("/v1/chat/completions?a=//../%2f;\\", CHAT),
    ("/v1/%63hat/completions", CHAT),
    ("/v1/c%68at/completions", CHAT),
    ("/v1/chat/%63%6f%6D%70%6C%65%74%69%6f%6e%73", CHAT),
    ("/%76%31/chat/completions", CHAT),
    ("/v%31/chat/completion%73", CHAT),
    ("/v1/chat/completion%73/", CHAT),
    ("/V1/chat/completions", "/V1/chat/completions"),
    ("/v1/Chat/Completions", "/v1/Chat/Completions"),
    ("/v1/%43hat/completions", "/v1/Chat/completions"),
    ("/v1/chat/completions%20", "/v1/chat/completions "),
    ("/v1/chat/completions.", "/v1/chat/completions."),
    ("/v1/chat/completions%2e", "/v1/chat/completions."),
    ("/v1/.chat/completions", "/v1/.chat/completions"),
    ("/v1/.../chat/completions", "/v1/.../chat/completions"),
    ("/v1/chat/completions%26x", "/v1/chat/completions&x"),
    ("/v1/chat/completions&x", "/v1/chat/completions&x"),
    ("/v1/chat%2bcompletions", "/v1/chat+completions"),
    ("/v1/chat+completions", "/v1/chat+completions"),
    ("/v1/ch%c3%a4t/completions", "/v1/chät/completions"),
    ("/v1/models/%E6%A8%A1%E5%9E%8B", "/v1/models/模型"),
    ("/v1/models/ft:gpt-4o:me::id", "/v1/models/ft:gpt-4o:me::id"),
    ("/v1/models/ft%3Agpt-4o", "/v1/models/ft:gpt-4o"),
    ("/v1beta/models/gemini-pro:generateContent", "/v1beta/models/gemini-pro:generateContent"),
    ("/", "/"),
    ("/?x", "/"),
]

REFUSED = [
    "",
    "v1/chat/completions",
    "*",
    "?/v1/chat/completions",
    "http://api.openai.com/v1/chat/completions",
    "//v1/chat/completions",
    "//",
    "///",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/chat/completions//",
    "/v1/chat/completions//?x",
    "//v1/./chat%2Fcompletions",
    "/./v1/chat/completions",
    "/v1/./chat/completions",
    "/v1/chat/completions/.",
    "/v1/chat/completions/./",
    "/v1/chat/completions/..",
    "/v1/x/../chat/completions",
    "/../v1/chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/x/%2e%2e/chat/completions",
    "/v1/x/.%2E/chat/completions",
    "/v1/x/%2e./chat/completions",
    "/v1/chat/completions/%2e%2e",
    "/..",
    "/.",
    "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions",
    "/v1%2fchat%2fcompletions",
    "/%2fv1/chat/completions",
    "/v1/chat/completions%2f",
    "/v1/chat%5ccompletions",
    "/v1/chat%5Ccompletions",
    "/v1/chat\\completions",
    "\\v1\\chat\\completions",
    "/v1/..\\chat/completions",
    "/v1/chat/completions;x=1",
    "/v1;/chat/completions",
    "/v1/chat/completions%3bx",
    "/v1/chat/completions%3Fx",
    "/v1/chat/completions%23x",
    "/v1/chat/completions#x",
    "/v1/chat/completions?x#y",
    "/v1/chat/completions%00",
    "/v1/chat/completions%00.json",
    "/v1/chat%0d%0acompletions",
    "/v1/chat%09/completions",
    "/v1/chat%1F/completions",
    "/v1/chat/completions%7f",
    "/v1/chat/completions\x00",
    "/v1/chat/completions\x7f",
    "/v1/chat\t/completions",
    "/v1/chat/completions\r\nx: y",
    "/v1/chat/completions HTTP/1.1",
    "/v1/chat/completions?x=\r\ny",
    "/v1/ch%2561t/completions",
    "/v1/chat%252fcompletions",
    "/v1/chat/completions%25",
    "/v1/chat/completions%",
    "/v1/chat/completions%2",
    "/v1/chat/completions%zz",
    "/v1/chat/completions%u002f",
    "/v1/chat%+f/completions",
    "/v1/chat/completions%c0%af",       # an overlong slash
    "/v1/%c0%ae%c0%ae/chat/completions",
    "/v1/chat/completions%ff",
    "/v1/chat/completions%ed%a0%80",    # a lone surrogate
    "/v1/chät/completions",
    "/v1/ch\udce4t/completions",        # how mitmproxy hands on a raw byte
    "/v1/chat／completions",
    "/v1/chat%EF%BC%8Fcompletions",     # a fullwidth slash
    "/v1/%EF%BC%8E%EF%BC%8E/chat",      # fullwidth dots
    "/v1/%EF%BD%83hat/completions",     # a fullwidth c
    "/v1/chat/completion%C5%BF",        # a long s
    "/v1/chat/completions%E2%80%8B",    # a zero-width space
    "/v1/chat/completions%C2%85",       # a C1 control
    "/v1/chat/completions?" + "x" * MAX_TARGET,
    "/" + "x" * MAX_TARGET,
]


@pytest.mark.parametrize(("target", "path"), READ)
def test_read(target: str, path: str) -> None:
    assert normalise(target) == (path, target.partition("?")[2])


@pytest.mark.parametrize("target", REFUSED)
def test_refused(target: str) -> None:
    with pytest.raises(AmbiguousPath) as caught:
        normalise(target)
    if len(target) > 4:
        assert target not in str(caught.value), "the client's text does not come back in the message"


def test_the_table_is_large_enough_and_says_each_thing_once() -> None:
    targets = [target for target, _ in READ] + REFUSED
    assert len(set(targets)) == len(targets) >= 60


def test_the_longest_target() -> None:
    assert normalise("/" + "x" * (MAX_TARGET - 1)) == ("/" + "x" * (MAX_TARGET - 1), "")


PLAIN = st.text(string.ascii_letters + string.digits + "-_~:@!$&'()*+,=", min_size=1, max_size=12)
PATHS = st.lists(PLAIN, min_size=1, max_size=6).map(lambda segments: "/" + "/".join(segments))


@given(PATHS)
def test_plain_paths_are_their_own_spelling(path: str) -> None:
    assert normalise(path) == (path, "")
    assert normalise(path + "/") == (path, "")


@given(PATHS, st.data())
def test_any_encoding_of_any_characters_is_the_same_path(path: str, data: st.DataObject) -> None:
    encoded = [character != "/" and data.draw(st.booleans()) for character in path]
    spelled = "".join(f"%{ord(c):02x}" if escape else c for c, escape in zip(path, encoded, strict=True))
    assert normalise(spelled) == (path, "")


@given(st.text(max_size=60) | st.text("/.%25cFf;\\#? ab", max_size=20))
def test_whatever_passes_is_unambiguous_and_passes_again_as_itself(text: str) -> None:
    try:
        path, query = normalise("/" + text)
    except AmbiguousPath:
        return
    assert path.startswith("/")
    assert not any(segment in ("", ".", "..") for segment in path.split("/")[1:]) or path == "/"
    assert not set(path) & set("\\;%#?\x00\r\n\x7f")
    assert normalise(quote(path) + "?" + query) == (path, query)
