"""Engines with the real demo model die or stop under load: every answer about every picture is the
one that it gets in peace."""

from __future__ import annotations

import random
from collections.abc import Iterator

import httpx
import pytest

from scripts.demo_model.scenes import random_scene
from tests.e2e.test_demo_model import MLX, about, streamed
from tests.faults.test_fleet import (
    CLIENTS,
    Ask,
    Strike,
    assert_drained,
    kill_an_engine,
    stop_an_engine,
    storm,
)
from tests.processes import Service, answer_text, serving

PICTURES = 24
QUESTIONS = ("What is in this image?", "How many shapes are there?", "Describe the picture.")
PAUSE_S = 5.0
STALLING = (*MLX[:-1], "3")


def asking_about_pictures(service: Service) -> Ask:
    """Ask about each picture in peace; return what asks about them again, in any order."""
    rng = random.Random(7)
    known = []
    for _ in range(PICTURES):
        scene = random_scene(rng, (rng.randrange(100, 400), rng.randrange(100, 400)))
        body = about(scene.encode("JPEG"), rng.choice(QUESTIONS), "image/jpeg")
        known.append((body, answer_text(service.ask(body))))

    async def ask(client: httpx.AsyncClient, url: str, rng: random.Random) -> None:
        body, expected = rng.choice(known)
        stream = rng.random() < 0.5
        response = await client.post(f"{url}/v1/chat/completions", json={**body, "stream": stream})
        assert response.status_code == 200, response.text
        assert (streamed(response) if stream else answer_text(response)) == expected

    return ask


@pytest.fixture(scope="module")
def asked_in_peace() -> Iterator[tuple[Service, Ask]]:
    """One service for all storms: the first must leave it as it was."""
    with serving(workers=2, worker_flags=STALLING) as service:
        yield service, asking_about_pictures(service)


@pytest.mark.parametrize("strike", [kill_an_engine, stop_an_engine])
async def test_answers_about_pictures_survive_their_engines(
    asked_in_peace: tuple[Service, Ask], strike: Strike
) -> None:
    def strike_one_of_two(service: Service, rng: random.Random) -> None:
        # A job that loses its second worker too is given up, and rightly so: on a busy machine a
        # model may need longer to come back than the next strike is away.
        service.await_ready(2)
        strike(service, rng)

    service, ask = asked_in_peace
    answered = await storm(service, strike_one_of_two, PAUSE_S, ask)
    assert answered > CLIENTS
    service.await_ready(2)
    assert_drained(service)
