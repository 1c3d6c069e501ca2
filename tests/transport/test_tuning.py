"""What replaces mitmproxy's own is equal to it. The originals are taken from a process that has not been tuned."""

import subprocess
import sys
import textwrap

from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.proxy import context
from mitmproxy.test import tflow

from mitmgate.transport import tuning

names = st.sampled_from(["Host", "host", "HOST", "x-a", "X-A", "Content-Type", "cookie", "missing"])
values = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=8)
fields = st.lists(st.tuples(names, values), max_size=8)


class Original:
    """mitmproxy's own look-ups, by way of its base classes and `_kconv`, which are not replaced."""

    @staticmethod
    def get_all(headers: http.Headers, name: str) -> list[str]:
        key = headers._kconv(name.encode())
        return [value.decode("utf-8", "surrogateescape") for field, value in headers.fields if headers._kconv(field) == key]


@given(fields, names)
def test_look_ups(found: list[tuple[str, str]], name: str) -> None:
    tuning.install()
    headers = http.Headers([(key.encode(), value.encode()) for key, value in found])
    expected = Original.get_all(headers, name)
    assert headers.get_all(name) == headers.get_all(name.encode()) == expected
    assert (name in headers) == bool(expected)
    assert headers.get(name) == (", ".join(expected) if expected else None)
    assert headers.get(name, "x") == (", ".join(expected) if expected else "x")
    if expected:
        assert headers[name] == ", ".join(expected)
    else:
        try:
            headers[name]
        except KeyError:
            pass
        else:
            raise AssertionError("a missing header has a value")
    assert dict(headers.items()) == {key: headers[key] for key in headers}


def test_a_fork_shares_what_it_shared() -> None:
    tuning.install()
    made = context.Context(tflow.tclient_conn(), object())  # type: ignore[arg-type]
    made.layers.append(object())  # type: ignore[arg-type]
    forked = made.fork()
    assert (forked.client, forked.options, forked.server) == (made.client, made.options, made.server)
    assert forked.layers == made.layers
    assert forked.layers is not made.layers
    assert vars(forked).keys() == vars(made).keys()


def test_the_originals_are_as_we_know_them() -> None:
    """An upgrade of mitmproxy that changes one of them must be looked at: here are their sources' fingerprints."""
    code = textwrap.dedent("""
        import hashlib, inspect
        from mitmproxy import http
        from mitmproxy.coretypes import multidict
        from mitmproxy.proxy.context import Context
        for thing in (http.Headers.get_all, http.Headers._kconv, http.Headers._reduce_values,
                      multidict._MultiDict.__getitem__, multidict._MultiDict.get_all, Context.fork, Context.__init__,
                      http.MessageData.__post_init__):
            print(thing.__qualname__, hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:12])
    """)
    output = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == FINGERPRINTS


FINGERPRINTS = """\
Headers.get_all 367b3317bc2b
Headers._kconv dd59639eb7c4
Headers._reduce_values d808a4075a1f
_MultiDict.__getitem__ 482e7414c932
_MultiDict.get_all 5bff03c1afa2
Context.fork cad9374a0689
Context.__init__ 7ee4176662ab
MessageData.__post_init__ f65088e210cd
"""
