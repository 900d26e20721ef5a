"""Who may connect as a worker when CURVE is on: the holders of the keys in one folder."""

from __future__ import annotations

import logging
from pathlib import Path

import zmq
from zmq.auth.asyncio import AsyncioAuthenticator

log = logging.getLogger(__name__)


def start_authenticator(
    context: zmq.Context[zmq.Socket[bytes]], authorized_workers: Path
) -> AsyncioAuthenticator:
    """Refuse every worker whose public key is not in `authorized_workers` (`*.key` files)."""
    authenticator = AsyncioAuthenticator(context)
    authenticator.start()
    read_keys(authenticator, authorized_workers)
    return authenticator


def read_keys(authenticator: AsyncioAuthenticator, authorized_workers: Path) -> None:
    """Let in who is authorized now. A worker that is connected already stays so: it is asked for
    its key when it connects. When the folder cannot be read, that is logged and nothing changes."""
    authenticator.configure_curve(domain="*", location=str(authorized_workers))
