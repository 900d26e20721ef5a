"""The image of the gateway alone has what a gateway imports; Homebrew's formula can be read."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.imports import ROOT, reached

CONTAINERFILE = (ROOT / "scripts" / "container" / "Containerfile").read_text()
BROUGHT = {"starlette", "pydantic", "pydantic_core"}
"""By FastAPI, at the version it wants."""


def test_the_image_has_what_a_gateway_imports() -> None:
    (pattern,) = re.findall(r"grep -E '([^']+)'", CONTAINERFILE)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    installed = {found[1] for line in lines if (found := re.match(pattern, line))}
    assert installed == set(re.findall(r"[a-z][a-z0-9-]+", pattern)), "all of them are required"
    packages = {name for file in (ROOT / "gateway").rglob("*.py") for name in reached(file)}
    ours = set(re.findall(r"^COPY (\w+) \1$", CONTAINERFILE, re.MULTILINE))
    foreign = packages - set(sys.stdlib_module_names) - ours - BROUGHT
    distributions = packages_distributions()
    wanted = {distributions[name][0].replace("_", "-").lower() for name in foreign}
    assert wanted <= installed


@pytest.mark.process
def test_the_formula_is_ruby() -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("needs ruby")
    formula = ROOT / "scripts" / "homebrew" / "proxy-oai-compat.rb"
    subprocess.run([ruby, "-c", formula], check=True, capture_output=True)
