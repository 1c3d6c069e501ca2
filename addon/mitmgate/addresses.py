from mitmgate.transport.addresses import *
from mitmgate.transport.addresses import classify, normalise_host, HostPattern


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own."""
    try:
        name = normalise_host(host)
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return classify(name) == "loopback"
    except ValueError:
        return False
