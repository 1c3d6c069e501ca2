"""Hosts, addresses and the patterns over them: spellings, and what lies behind each."""

import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.addresses import HostPattern, classify, normalise_host

HOSTS = [
    ("api.openai.com", "api.openai.com"),
    ("API.OpenAI.COM", "api.openai.com"),
    ("api.openai.com.", "api.openai.com"),
    ("localhost", "localhost"),
    ("my_host-1.corp", "my_host-1.corp"),
    ("a--b.corp", "a--b.corp"),
    ("Müller.example", "xn--mller-kva.example"),
    ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ("api。openai．com", "api.openai.com"),
    ("ａｐｉ.openai.com", "api.openai.com"),
    ("api.open\u00adai.com", "api.openai.com"),
    ("\u212aagi.com", "kagi.com"),
    ("xn--mller-kva.example", "xn--mller-kva.example"),
    ("x" * 63 + ".com", "x" * 63 + ".com"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("①②⑦.⓪.⓪.①", "127.0.0.1"),
    ("１２７.0.0.1", "127.0.0.1"),
    ("[::1]", "::1"),
    ("::1", "::1"),
    ("[0:0:0:0:0:0:0:1]", "::1"),
    ("[2001:0DB8:0:0::00FF]", "2001:db8::ff"),
    ("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"),
    ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
    ("1.2.3.4.example", "1.2.3.4.example"),
    ("0x7f.example", "0x7f.example"),
]

NO_HOSTS = [
    *("", ".", "..", "a..b", ".a", "a.b..", "-a.b", "a b", "a\tb", "a/b", "a\\b", "a@b", "a%2eb", "a:b", "a:443", "*"),
    *("a?b", "a,b", "a;b", "a\0", "a\r\nb", "x" * 64 + ".com", "a." * 127 + "ab", "é" * 70, "a℀b", "a。。b", "\ud800"),
    *("0x7f.1", "0x7f000001", "0x7F.0.0.1", "2130706433", "017700000001", "127.1", "127.0.1", "0177.0.0.1"),
    "127.0.0.01",
    *("127.0.0.0x1", "127.0.0.256", "127.0.0.1.1", "1.2.3.4.5", "1", "0", "0x", "example.0x7f", "example.1", "①②⑦.①"),
    *("-1.0.0.1", "[127.0.0.1]", "[::1", "::1]", "[]", "[", "[fe80::1%eth0]", "fe80::1%25eth0", "[::g]", "[1::2::3]"),
    *("[::1].", "[::1]:80"),
]


@pytest.mark.parametrize(("host", "spelling"), HOSTS)
def test_hosts(host: str, spelling: str) -> None:
    assert normalise_host(host) == spelling
    assert normalise_host(spelling) == spelling


@pytest.mark.parametrize("host", NO_HOSTS)
def test_no_hosts(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the type is the contract; ipaddress words some of the messages
        normalise_host(host)


@given(st.text(max_size=40) | st.text("0123456789xabf.:[]①。-", max_size=20))
def test_a_spelling_is_final_and_plain(text: str) -> None:
    try:
        host = normalise_host(text)
    except ValueError:
        return
    assert normalise_host(host) == host
    assert host.isascii()
    assert host == host.lower()
    assert len(host) <= 253


ADDRESSES = [
    ("8.8.8.8", "public"),
    ("1.1.1.1", "public"),
    ("172.15.255.255", "public"),
    ("172.32.0.0", "public"),
    ("100.63.255.255", "public"),
    ("100.128.0.0", "public"),
    ("2606:4700::1111", "public"),
    ("2a00:1450:4001:830::200e", "public"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("0.0.0.0", "loopback"),
    ("::", "loopback"),
    ("::1", "loopback"),
    ("0:0:0:0:0:0:0:1", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "private"),
    ("100.127.255.255", "private"),
    ("fc00::1", "private"),
    ("fdff::1", "private"),
    ("fec0::1", "private"),
    ("169.254.0.1", "link_local"),
    ("fe80::1", "link_local"),
    ("fe80::1%eth0", "link_local"),
    ("febf::1", "link_local"),
    ("169.254.169.254", "metadata"),
    ("169.254.170.2", "metadata"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("FD00:0EC2:0:0:0:0:0:0254", "metadata"),
    ("fd00:ec2::254%1", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("0.1.2.3", "reserved"),
    ("192.0.0.1", "reserved"),
    ("192.0.2.1", "reserved"),
    ("192.88.99.1", "reserved"),
    ("198.18.0.1", "reserved"),
    ("198.51.100.7", "reserved"),
    ("203.0.113.9", "reserved"),
    ("224.0.0.1", "reserved"),
    ("239.255.255.250", "reserved"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("ff02::1", "reserved"),
    ("2001:db8::1", "reserved"),
    ("3fff::1", "reserved"),
    ("2001:10::1", "reserved"),
    ("100::1", "reserved"),
    ("::127.0.0.1", "reserved"),
    ("4000::1", "reserved"),
    # Mapped
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "loopback"),
    ("::ffff:0.0.0.0", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::ffff:8.8.8.8", "public"),
    # NAT64, the well-known prefix
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a00:1", "private"),
    ("64:ff9b::a9fe:a9fe", "metadata"),
    ("64:ff9b::8.8.8.8", "public"),
    ("64:ff9b:0:1::8.8.8.8", "reserved"),
    # NAT64, a site's prefix of 96, 64, 56 and 48 bits
    ("64:ff9b:1::127.0.0.1", "loopback"),
    ("64:ff9b:1:2:3:4:169.254.169.254", "metadata"),
    ("64:ff9b:1::8.8.8.8", "public"),
    ("64:ff9b:1:2:7f:0:100:0", "loopback"),
    ("64:ff9b:1:20a:0:1::", "private"),
    ("64:ff9b:1:7f00:0:100::", "loopback"),
    ("64:ff9b:1:a9fe:a9:fe00::", "metadata"),
    ("64:ff9b:1:808:8:800::", "public"),
    # 6to4
    ("2002:7f00:1::", "loopback"),
    ("2002:a00:1::1", "private"),
    ("2002:a9fe:a9fe::1", "metadata"),
    ("2002:808:808::1", "public"),
    # Teredo: server, and the client with its bits inverted
    ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", "public"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),
    ("2001:0:4136:e378:8000:63bf:5601:5601", "metadata"),
    ("2001:0:7f00:1:8000:63bf:f7f7:f7f7", "loopback"),
]


@pytest.mark.parametrize(("address", "kind"), ADDRESSES)
def test_addresses(address: str, kind: str) -> None:
    assert classify(address) == kind


NO_ADDRESSES = ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "[::1]", "10.0.0.0/8", "127.0.0.1 "]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_no_addresses(address: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        classify(address)


@given(st.ip_addresses(v=4))
def test_an_embedded_address_is_what_it_embeds(inner: IPv4Address) -> None:
    kind = classify(str(inner))
    assert classify(f"::ffff:{inner}") == kind
    assert classify(f"64:ff9b::{inner}") == kind
    assert classify(str(IPv6Address((0x2002 << 112) | (int(inner) << 80)))) == kind


EMBEDDING = [IPv6Network(n) for n in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]


@given(st.ip_addresses())
def test_nothing_that_python_calls_unreachable_is_public(address: IPv4Address | IPv6Address) -> None:
    unreachable = address.is_private or address.is_multicast or address.is_reserved or address.is_link_local
    if unreachable and not any(address in network for network in EMBEDDING):
        assert classify(str(address)) != "public"


MATCHES = [
    # pattern, host, port, addresses, whether
    ("api.openai.com", "api.openai.com", 443, (), True),
    ("API.OpenAI.com.", "api.openai.com", 443, (), True),
    ("api.openai.com", "xapi.openai.com", 443, (), False),
    ("api.openai.com", "api.openai.com.evil.example", 443, (), False),
    ("api.openai.com", "apixopenai.com", 443, (), False),
    ("*.openai.azure.com", "x.openai.azure.com", 443, (), True),
    ("*.openai.azure.com", "a.b.openai.azure.com", 443, (), True),
    ("*.openai.azure.com", "openai.azure.com", 443, (), False),
    ("*.openai.azure.com", "x.openai.azure.com.evil.example", 443, (), False),
    ("gpu?.corp", "gpu1.corp", 80, (), True),
    ("gpu?.corp", "gpu12.corp", 80, (), False),
    ("*", "anything.example", 25, (), True),
    ("*", "10.0.0.1", 80, (), True),
    ("*", "::1", 80, (), True),
    ("f*", "fe80::1", 80, (), False),
    ("f*", "files.corp", 80, (), True),
    ("*:443", "a.b", 443, (), True),
    ("*:443", "a.b", 80, (), False),
    ("a.corp:8443", "a.corp", 8443, (), True),
    ("a.corp:8443", "a.corp", 443, (), False),
    ("müller.example", "xn--mller-kva.example", 443, (), True),
    ("*.müller.example", "www.xn--mller-kva.example", 443, (), True),
    ("10.0.0.1", "10.0.0.1", 80, (), True),
    ("10.0.0.1.", "10.0.0.1", 80, (), True),
    ("10.0.0.1", "10.0.0.2", 80, (), False),
    ("10.0.0.1:80", "10.0.0.1", 80, (), True),
    ("10.0.0.1:80", "10.0.0.1", 81, (), False),
    ("10.0.0.0/8", "10.9.9.9", 80, (), True),
    ("10.0.0.0/8", "11.0.0.0", 80, (), False),
    ("10.0.0.0/8", "name.corp", 80, ("10.1.2.3",), True),
    ("10.0.0.0/8", "name.corp", 80, ("8.8.8.8", "10.1.2.3"), True),
    ("10.0.0.0/8", "name.corp", 80, ("8.8.8.8",), False),
    ("10.0.0.0/8", "name.corp", 80, (), False),
    ("10.0.0.0/8:8443", "name.corp", 8443, ("10.1.2.3",), True),
    ("10.0.0.0/8:8443", "name.corp", 443, ("10.1.2.3",), False),
    ("10.0.0.0/8", "name.corp", 80, ("::ffff:10.1.2.3",), True),
    ("10.0.0.0/8", "name.corp", 80, ("64:ff9b::a01:203",), True),
    ("10.0.0.0/8", "name.corp", 80, ("2002:a01:203::1",), True),
    ("10.0.0.0/8", "::ffff:10.1.2.3", 80, (), True),
    ("::ffff:10.0.0.0/104", "10.1.2.3", 80, (), True),
    ("64:ff9b::/96", "name.corp", 80, ("64:ff9b::808:808",), True),
    ("::1", "::1", 80, (), True),
    ("[::1]", "::1", 80, (), True),
    ("[::1]:443", "::1", 443, (), True),
    ("[::1]:443", "::1", 80, (), False),
    ("fd00::/8", "fd12::1", 80, (), True),
    ("[fd00::]/8", "n.corp", 80, ("fd12::1",), True),
    ("[fd00::]/8:443", "n.corp", 80, ("fd12::1",), False),
    ("fe80::/10", "n.corp", 80, ("fe80::1%2",), True),
    ("0.0.0.0/0", "n.corp", 80, ("8.8.8.8",), True),
    ("0.0.0.0/0", "n.corp", 80, ("2606:4700::1111",), False),
    ("localhost", "localhost", 80, ("127.0.0.1",), True),
    ("localhost", "other", 80, ("127.0.0.1",), False),
]


@pytest.mark.parametrize(("pattern", "host", "port", "addresses", "matches"), MATCHES)
def test_patterns(pattern: str, host: str, port: int, addresses: tuple[str, ...], matches: bool) -> None:
    assert HostPattern.parse(pattern).matches(host, port, addresses) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        *("", " ", ".", "a b", "a/b", "a..b", "*..corp", "a:b", "a:", ":443", "a:0", "a:65536", "a:123456", "a*:99999"),
        *("https://a.b", "a.b/", "10.*", "192.168.?.*", "*.1", "10.0.0.1/8", "10.0.0.0/33", "fd00::1/8", "0x7f.1"),
        *("2130706433", "127.1", "256.1.1.1", "[::1", "::1]", "[::1:443", "[a.corp]", "[10.0.0.1", "fe80::1%eth0"),
        *("*ü.example", "[*]", "a[1].corp", "a\nb", "[a", "[a.b]", "[10.0.0.1]", "a.."),
    ],
)
def test_patterns_refused(pattern: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what every message must hold is asserted below
        HostPattern.parse(pattern)
    assert repr(pattern.strip())[1:-1] in str(caught.value), "the author sees which entry is meant"


@pytest.mark.parametrize(
    ("pattern", "specific", "port"),
    [
        ("*", False, None),
        ("**", False, None),
        ("*.*", False, None),
        ("?*", False, None),
        ("*:443", False, 443),
        ("0.0.0.0/0", False, None),
        ("::/0", False, None),
        ("*.corp", True, None),
        ("a.corp:8443", True, 8443),
        ("10.0.0.0/8", True, None),
        ("[::1]:80", True, 80),
    ],
)
def test_specific_and_port(pattern: str, specific: bool, port: int | None) -> None:
    parsed = HostPattern.parse(pattern)
    assert (parsed.specific, parsed.port, parsed.text) == (specific, port, pattern)


def test_patterns_are_values() -> None:
    assert HostPattern.parse("*.corp:1") == HostPattern.parse("*.corp:1")
    assert len({HostPattern.parse("10.0.0.0/8"), HostPattern.parse("10.0.0.0/8")}) == 1


@pytest.mark.parametrize("pattern", ["*a*a*a*a*b", "*a*a*a*a*a*a*a*a*a*?b", "a*?a*?a*?b"])
def test_no_pattern_blows_up(pattern: str) -> None:
    parsed = HostPattern.parse(pattern)
    began = time.process_time()
    assert not parsed.matches("a" * 100_000, 443)
    assert time.process_time() - began < 0.5


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_networks_match_as_bits_say(base: IPv4Address, length: int, address: IPv4Address) -> None:
    shift = 32 - length
    network = IPv4Address(int(base) >> shift << shift)
    inside = int(address) >> shift == int(base) >> shift
    assert HostPattern.parse(f"{network}/{length}").matches("name.corp", 1, (str(address),)) is inside
