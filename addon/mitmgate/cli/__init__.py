"""The commands. Before any of them is imported, key logging is switched off: libraries make TLS contexts at import."""

import os

KEY_LOG_ASKED = bool(os.environ.pop("SSLKEYLOGFILE", "") or os.environ.pop("MITMPROXY_SSLKEYLOGFILE", ""))
"""Whether somebody wanted the TLS keys of this process written to a file (THREATS, row 18)."""
