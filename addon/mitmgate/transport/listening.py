"""Where a gateway may listen under which rules."""

from mitmgate.rules.addresses import Address
from mitmgate.rules.schema import Rules


def require_loopback(host: str, rules: Rules) -> None:
    """Raises ValueError where anybody could call, and nobody has written that they may. `host`: "" is everywhere."""
    if rules.access == "open" and not rules.access_written and not Address(host or "0.0.0.0", 0).loopback:  # noqa: S104
        raise ValueError(
            f"listening on {host or 'all interfaces'} would let anybody call: write `access: open` into the rules "
            "if that is meant, or listen on 127.0.0.1"
        )
