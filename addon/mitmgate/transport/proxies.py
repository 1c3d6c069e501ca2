"""Corporate proxies on the way out."""

import base64


def proxy_authorisation(secret: str) -> str:
    """A Proxy-Authorization value: `user:password` becomes Basic (RFC 7617), `Scheme value` stays as it is.

    A colon in the first word tells a user name from a scheme, which has none; a password may hold spaces.
    """
    scheme, space, _ = secret.partition(" ")
    if ":" not in scheme:
        return secret if space else f"Bearer {secret}"
    return "Basic " + base64.b64encode(secret.encode()).decode()
