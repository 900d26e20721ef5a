"""Where the tiers meet: ZeroMQ endpoints and CURVE key files, checked before anything starts.

libzmq takes most broken ones without a word and then never connects.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from shared.settings import SettingsError

KEY_CHARACTERS = 40
ANY_PORT = ("*", "0")
HOST = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9_.%:;\[\]-]*")
"""What libzmq connects to: with any other character it fails, in the process that is to connect."""
NO_PATHS = ("", "@")
ANY_PATH = "*"


def check_endpoint(flag: str, endpoint: str, *, listens: bool = False) -> None:
    """Refuse what libzmq could not connect to.

    Args:
        listens: the endpoint is bound, so that its port may be any that is free.

    Raises:
        SettingsError: it is neither tcp://HOST:PORT nor ipc://PATH, or too long a path for this
            platform.
    """
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc" and address not in NO_PATHS and (listens or address != ANY_PATH):
        length = len(os.fsencode(address))
        if length > zmq.IPC_PATH_MAX_LEN:
            raise SettingsError(
                f"{flag}: the path of a socket has at most {zmq.IPC_PATH_MAX_LEN} bytes here, this "
                f"one {length}: {endpoint!r}"
            )
        return
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    whole = bool(bare) and (":" not in bare or host == f"[{bare}]")
    numbered = port.isascii() and port.isdigit() and 0 < int(port) <= 65535
    known = listens or HOST.fullmatch(host) is not None
    if scheme != "tcp" or not (whole and known) or not (numbered or (listens and port in ANY_PORT)):
        raise SettingsError(f"{flag}: expected tcp://HOST:PORT or ipc://PATH, got {endpoint!r}")


def check_key_file(flag: str, path: str, *, secret: bool) -> None:
    """Refuse a file that does not hold a CURVE key of that kind.

    Raises:
        SettingsError: it cannot be read, or holds another key, or none.
    """
    try:
        keys = zmq.auth.load_certificate(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no CURVE key"
        raise SettingsError(f"{flag}: {path}: {reason} (scripts/keys makes keys)") from None
    key = keys[1] if secret else keys[0]
    if secret and key is None:
        raise SettingsError(f"{flag}: {path} holds a public key; the secret one is wanted")
    if not _is_key(keys[0]) or not _is_key(key):
        raise SettingsError(f"{flag}: {path}: it holds no CURVE key (scripts/keys makes keys)")


def _is_key(key: bytes | None) -> bool:
    if key is None or len(key) != KEY_CHARACTERS:
        return False
    try:
        z85.decode(key)
    except (KeyError, ValueError):
        return False
    return True
