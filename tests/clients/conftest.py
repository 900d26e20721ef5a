"""One server with the demo model for all clients, and one that plays scripts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.asking import MODEL
from tests.processes import Service, serving

DEMO = ("--served-model-name", MODEL, "--max-concurrency", "4")
TIMEOUT = ("--queue-timeout", "20")
"""An answer that does not end fails its test, instead of holding up all."""
NARROW = ("--engine", "scripted", "--max-concurrency", "1", "--max-streams", "1")


@pytest.fixture(scope="session")
def demo() -> Iterator[Service]:
    with serving(gateway_flags=TIMEOUT, worker_flags=DEMO) as service:
        yield service


@pytest.fixture(scope="session")
def base_url(demo: Service) -> str:
    """What OpenAI's clients call the base URL."""
    return f"{demo.url}/v1"


@pytest.fixture
def narrow() -> Iterator[Service]:
    """A scripted engine with one slot of each kind and a queue of one."""
    with serving(gateway_flags=("--queue-size", "1"), worker_flags=NARROW) as service:
        yield service
