"""Makes CURVE keys for workers on other machines (`scripts/keys` runs this)."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import zmq
import zmq.auth

from scripts.called_from import go_back
from scripts.installation import command_name, home
from scripts.own_server import OwnServer
from shared.settings import OneLineParser, SettingsError

SECRET = "gateway.key_secret"
DESCRIPTION = f"""\
Makes CURVE keys, so that gateway and workers on different machines know each other and nobody
can listen in. Call it again for more workers: what is there is kept, above all the gateway's pair.

  {command_name("keys")} mac-2 mac-3

writes below keys/:
  gateway.key_secret      stays on the gateway   python -m gateway --curve-key
  authorized/NAME.key     stays on the gateway   python -m gateway --authorized-workers keys/authorized
  gateway.key             goes to each worker    python -m worker --gateway-key
  NAME.key_secret         goes to that worker    python -m worker --worker-key

Removing a file from keys/authorized and restarting the gateway shuts that worker out.
"""  # noqa: E501 - a table


def main() -> int:
    try:
        folder = _folder_of_gateway()
    except SettingsError as error:
        print(f"{command_name('keys')}: {error}", file=sys.stderr)
        return 2
    parser = OneLineParser(
        prog=command_name("keys"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("worker", nargs="+", help="a name for each worker's machine")
    parser.add_argument(
        "--folder", type=Path, default=folder, help="where they are written [default: %(default)s]"
    )
    options = parser.parse_args()
    for name in options.worker:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "gateway":
            parser.error(f"{name!r} cannot be a worker's name: use letters, digits, . _ -")
    authorized = options.folder / "authorized"
    authorized.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o700)
    try:
        _make_gateway_pair(options.folder)
        for name in options.worker:
            _make_worker_pair(options.folder, name, authorized)
    except KeyProblem as problem:
        print(f"{command_name('keys')}: {problem}", file=sys.stderr)
        return 1
    return 0


def _folder_of_gateway() -> Path:
    """Where the gateway here looks for its own secret key, if it is told to."""
    secret = OwnServer().path("GATEWAY_CURVE_KEY")
    return secret.parent if secret and secret.name == SECRET else home() / "keys"


class KeyProblem(Exception):
    """Half of a pair is gone, and only the user can know why."""


def _make_gateway_pair(folder: Path) -> None:
    """A new secret would shut every worker out, so one that is there stays for ever."""
    secret, public = folder / SECRET, folder / "gateway.key"
    if secret.exists():
        if public.exists():
            print(f"kept  {secret}")
        else:
            _write_public(secret, public)
    elif public.exists():
        raise KeyProblem(
            f"{public} is there and {secret} is not. Put it back; or remove the first too for a "
            "new pair, and then give every worker the new gateway.key"
        )
    else:
        _make_pair(folder, "gateway", public)


def _make_worker_pair(folder: Path, name: str, authorized: Path) -> None:
    secret, public = folder / f"{name}.key_secret", authorized / f"{name}.key"
    if public.exists():
        # Its secret may have been moved to where it belongs.
        print(f"kept  {secret if secret.exists() else public}")
    elif secret.exists():
        raise KeyProblem(
            f"{name} was shut out: {secret} is there and {public} is not. Put that back to let it "
            f"in again, or remove {secret} too for a new pair"
        )
    else:
        _make_pair(folder, name, public)


def _make_pair(folder: Path, name: str, public: Path) -> None:
    before = os.umask(0o077)
    try:
        made_public, secret = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    Path(made_public).replace(public)
    print(f"made  {secret}")
    print(f"made  {public}")


def _write_public(secret: Path, public: Path) -> None:
    """Make a public key's file again, as the library writes it."""
    try:
        _, key = zmq.auth.load_certificate(secret)
    except (OSError, ValueError) as error:
        raise KeyProblem(f"{secret} cannot be read: {error}") from None
    if key is None:
        raise KeyProblem(f"{secret} holds no secret key")
    public.write_text(f'metadata\ncurve\n    public-key = "{zmq.curve_public(key).decode()}"\n')
    print(f"made  {public} again, from {secret}")


if __name__ == "__main__":
    go_back()
    sys.exit(main())
