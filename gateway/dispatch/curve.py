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
    authenticator.configure_curve(domain="*", location=str(authorized_workers))
    return authenticator
