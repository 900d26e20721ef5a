"""The version, stated once: `--version`, `/openapi.json` and the packaging read it here."""

VERSION = "0.1.0"

VERSION_LINE = f"proxy-oai-compat {VERSION}"
"""What `--version` prints."""
