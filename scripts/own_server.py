"""The server that this folder's settings describe: where commands find it, and with which key.

Python's own library only: `scripts/doctor` works when nothing else does.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from scripts.installation import home
from scripts.loopback import reachable
from shared.environment_file import FILE, read
from shared.model_path import below
from shared.settings import OneLineParser, SettingsError

HOST, PORT, WORKER_PORT = "0.0.0.0", "8000", 5555
"""The gateway's own defaults."""
LAST_PORT = 65535
CLIENTS_KEY = "OPENAI_API_KEY"


class OwnServer:
    """What `scripts/serve` would start here, as the environment and `.env` say.

    Raises SettingsError where these cannot be read or say nothing that can be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """
        Args:
            folder: where `.env` lies, and where relative paths in it start.
        """
        self._folder = folder or home()
        self._file = read(self._folder / FILE)
        self.environment: Mapping[str, str] = {**os.environ, **self._file.values}

    def check(self) -> list[str]:
        """Return what `.env` says in vain.

        Raises:
            SettingsError: a tier that is started here would refuse its settings.
        """
        try:
            from scripts.launch.mistakes import check, oddities
        except ImportError:  # packages are missing, which `scripts/doctor` tells
            return []
        check(self.environment, self._file, self._folder)
        return list(oddities(self._file))

    @cached_property
    def url(self) -> str:
        """
        Raises:
            SettingsError: nothing can be found there.
        """
        port, name = self.environment.get("GATEWAY_PORT", PORT), self._file.called("GATEWAY_PORT")
        if not (port.isascii() and port.isdecimal() and int(port) <= LAST_PORT):
            raise SettingsError(f"{name}: expected a TCP port, got {port!r}")
        if int(port) == 0:
            raise SettingsError(f"{name}: with 0, any free port, no command finds the server")
        return f"http://{reachable(self.environment.get('GATEWAY_HOST', HOST))}:{port}"

    @property
    def worker_port(self) -> int:
        """Where workers connect; that of the gateway's default where it is none of TCP's."""
        bind = self.environment.get("GATEWAY_BIND", "")
        found = re.search(r"tcp://\S+:(\d+)", bind)
        return int(found[1]) if found else WORKER_PORT

    def api_key(self, url: str) -> str:
        """The key to show at a URL. What this server's own settings hold is told to it alone."""
        own = self._first_key(self.environment, "GATEWAY_API_KEY") if url == self.url else ""
        return own or self.environment.get(CLIENTS_KEY, "")

    def admin_key(self, url: str) -> str:
        """The key for orders. The environment's own one was set for this command, whatever URL."""
        known = self.environment if url == self.url else os.environ
        return self._first_key(known, "GATEWAY_ADMIN_KEY")

    def path(self, variable: str) -> Path | None:
        """A file or folder that is set, absolute; None where nothing is."""
        value = self.environment.get(variable)
        return self.below_home(value) if value else None

    def below_home(self, path: str) -> Path:
        """A path as the settings have it, absolute."""
        return below(path, self._folder)

    def _first_key(self, known: Mapping[str, str], variable: str) -> str:
        """Several keys have commas or spaces between them in a variable, line ends in a file."""
        keys = re.findall(r"[^,\s]+", known.get(variable, ""))
        file = self.path(f"{variable}_FILE") if f"{variable}_FILE" in known else None
        if not keys and file is not None:
            try:
                lines = file.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                name = self._file.called(f"{variable}_FILE")
                raise SettingsError(f"{name}: cannot read {file}: {error}") from None
            keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return keys[0] if keys else ""


def checked(command: str) -> OwnServer:
    """The server here, with what `.env` says in vain told on standard error.

    Raises:
        SettingsError: its settings cannot be used.
    """
    own = OwnServer()
    for oddity in own.check():
        print(f"{command}: {oddity}", file=sys.stderr)
    return own


def server_flags(own: OwnServer, *, again: bool = False) -> OneLineParser:
    """`--url` and `--key`, as a parent of a command's parser.

    Args:
        again: for the parser of a verb, so that both may stand on either side of it.
    """
    flags = OneLineParser(add_help=False)
    without = argparse.SUPPRESS
    flags.add_argument(
        "--url",
        type=server_url,
        default=without if again else own.url,
        help=f"address of the server [default: {own.url}]",
    )
    flags.add_argument(
        "--key",
        type=key_for_a_header,
        default=without if again else "",
        help=f"an API key [default: the one that the server here asks for, else {CLIENTS_KEY}]",
    )
    return flags


def key_for_a_header(typed: str) -> str:
    """
    Raises:
        argparse.ArgumentTypeError: no server can have such a key.
    """
    if not (typed.isascii() and typed.isprintable()):
        raise argparse.ArgumentTypeError("a key is one or more printable ASCII characters")
    return typed.strip()


def server_url(typed: str) -> str:
    """The address of a server as people write it: without a scheme, with the API's `/v1`.

    Raises:
        argparse.ArgumentTypeError: it names no server.
    """
    url = (typed if "://" in typed else f"http://{typed}").rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT, got {typed!r}")
    return url
