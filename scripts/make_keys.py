"""Makes CURVE keys for workers on other machines (`scripts/keys` runs this)."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import zmq.auth

DESCRIPTION = """\
Makes CURVE keys, so that gateway and workers on different machines know each other and nobody
can listen in. The gateway's pair is made once; call it again for each worker.

  scripts/keys mac-2 mac-3

writes below keys/:
  gateway.key_secret      stays on the gateway   python -m gateway --curve-key
  authorized/NAME.key     stays on the gateway   python -m gateway --authorized-workers keys/authorized
  gateway.key             goes to each worker    python -m worker --gateway-key
  NAME.key_secret         goes to that worker    python -m worker --worker-key

Removing a file from keys/authorized and restarting the gateway shuts that worker out.
"""  # noqa: E501 - a table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/keys",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("worker", nargs="+", help="a name for each worker's machine")
    parser.add_argument("--folder", type=Path, default=Path("keys"), help="[default: keys]")
    options = parser.parse_args()
    for name in options.worker:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "gateway":
            parser.error(f"{name!r} cannot be a worker's name: use letters, digits, . _ -")
    authorized = options.folder / "authorized"
    authorized.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o700)
    _make_pair(options.folder, "gateway", options.folder)
    for name in options.worker:
        _make_pair(options.folder, name, authorized)
    return 0


def _make_pair(folder: Path, name: str, public_to: Path) -> None:
    """Make NAME.key_secret in `folder` and NAME.key in `public_to`, unless they are there."""
    secret, public = folder / f"{name}.key_secret", public_to / f"{name}.key"
    if secret.exists() and public.exists():
        print(f"kept  {secret}")
        return
    before = os.umask(0o077)
    try:
        made_public, _ = zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)
    Path(made_public).replace(public)
    print(f"made  {secret}")
    print(f"made  {public}")


if __name__ == "__main__":
    sys.exit(main())
