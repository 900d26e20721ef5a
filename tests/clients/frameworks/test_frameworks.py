"""Frameworks over these APIs: the lightest here, and with `pytest -m frameworks` all those that
`scripts/clients` has installed, which together take minutes."""

from __future__ import annotations

import pytest

from tests.clients.frameworks.catalogue import FRAMEWORKS, Framework
from tests.clients.frameworks.right import RIGHT, judged
from tests.clients.frameworks.trying import is_installed, outcomes


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda one: one.name)
def test_each_trial_is_right(framework: Framework, request: pytest.FixtureRequest) -> None:
    if not framework.in_suite:
        if "frameworks" not in request.config.option.markexpr:
            pytest.skip("scripts/clients tries it, or pytest -m frameworks")
        if not is_installed(framework):
            pytest.skip(f"scripts/clients {framework.name} installs it")
    told = outcomes(framework, request.getfixturevalue("base_url"))
    assert {name: told[name] for name, right in judged(told).items() if not right} == {}
    assert {"text", "picture", "stream", "structured", "error"} <= told.keys() <= RIGHT.keys()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda one: one.name)
def test_each_environment_has_its_version(framework: Framework) -> None:
    assert framework.packages and all("==" in package for package in framework.packages)
    assert framework.version[0].isdigit()


WRONG = {
    "text": "Paris",
    "picture": "",
    "stream": {"raised": "APIError", "message": "temperature: must be"},
    "structured": {"kind": "circle", "color": "red", "size": "large"},
    "tool": {"called": [], "answer": "Paris"},
    "error": {"raised": "TimeoutError", "message": ""},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_wrong_is_seen(name: str) -> None:
    assert judged({name: WRONG[name]}) == {name: False}
