"""Corporate proxies on the way out."""

import base64


def proxy_authorisation(secret: str) -> str:
    """A Proxy-Authorization value: `user:password` becomes Basic (RFC 7617), anything with a scheme stays as it is."""
    if " " in secret or ":" not in secret:
        return secret if " " in secret else f"Bearer {secret}"
    return "Basic " + base64.b64encode(secret.encode()).decode()
