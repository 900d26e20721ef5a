"""The version, stated once: `--version`, `/openapi.json` and the packaging read it here."""

VERSION = "0.1.0"
