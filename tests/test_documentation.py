"""The README and docs/ say what is true of the tree: files, flags, parameters, figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.api.common.parameters import parameter_table
from gateway.api.dialect import DIALECTS
from scripts.flag_tables import DOCUMENT, with_tables
from scripts.launch.flags import flag_targets
from tests.imports import ROOT, TIERS

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md"))]
LONGEST_README = 240

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FILE = re.compile(r"`((?:docs|scripts|gateway|worker|shared|tests)/[\w./-]+\w)`")
MODULE = re.compile(r"`(\w+\.py)`")
OTHER_FLAGS = {
    "--cached",
    "--help",
    "--version",
    "--workers",  # scripts/serve
    *("--run", "--model"),  # scripts/doctor
    "--quick",  # scripts/test
    *("--json", "--only", "--minutes"),  # scripts/gpu_check
    *("--rival", "--lend-blas"),  # scripts/bench
    "--seconds",  # scripts/fuzz
    "--write",  # scripts/clients
    "--from",  # uvx
    *("--config", "--storage"),  # prometheus
    *("--rm", "--user", "--userns", "--format"),  # podman
    *("--prefix", "--head"),  # brew
    "--offline",  # systemd-analyze
}
"""Flags of commands that are neither tier."""


def test_flag_tables_are_those_of_the_settings() -> None:
    text = DOCUMENT.read_text()
    assert with_tables(text) == text, "run: python -m scripts.flag_tables"


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_that_is_named_exists(page: Path) -> None:
    assert set(FLAG.findall(page.read_text())) - set(flag_targets()) - OTHER_FLAGS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    missing = [name for name in FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_named_without_its_folder_exists(page: Path) -> None:
    tops = (*TIERS, "scripts", "tests")
    modules = {path.name for top in tops for path in (ROOT / top).rglob("*.py")}
    assert set(MODULE.findall(page.read_text())) - modules == set()


def test_every_page_is_named_by_the_readme() -> None:
    text = README.read_text()
    assert [page.name for page in DOCS.glob("*.md") if f"`docs/{page.name}`" not in text] == []


def test_the_map_shows_every_folder_of_modules() -> None:
    """Of the tiers each, of scripts and tests those at the top."""
    text = (DOCS / "architecture.md").read_text()
    named = re.compile(r"`([a-z_/]+/)`")
    chapter = text.split("## Map")[1].split("Why some things")[0]
    shown = {name for row in rows(chapter)[1:] for name in named.findall(row[0])}
    modules = [path for top in (*TIERS, "scripts", "tests") for path in (ROOT / top).rglob("*.py")]
    folders = {path.parent.relative_to(ROOT) for path in modules if path.name != "__init__.py"}
    depth = {"scripts": 2, "tests": 1}
    there = {f"{Path(*folder.parts[: depth.get(folder.parts[0])])}/" for folder in folders}
    assert shown - {"worker/demo_model/"} == there


def rows(text: str) -> list[list[str]]:
    """Of Markdown tables, headings included."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- parameters that do nothing ------------------------------------------------------------


def names_in(text: str) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text))


def ignored(path: str) -> set[str]:
    (body,) = (dialect.body for dialect in DIALECTS if dialect.path == path)
    return {row["name"] for row in parameter_table(body) if row["support"] == "ignored"}


def test_the_readme_names_what_a_chat_completion_ignores() -> None:
    found = re.search(r"thirteen are accepted.*?`stream_options`", README.read_text(), re.DOTALL)
    assert found
    nested = {"include_obfuscation"}
    assert names_in(found[0]) == {*ignored("/v1/chat/completions"), *nested, "stream_options"}
    assert len(names_in(found[0]) - {"stream_options"}) == 13


@pytest.mark.parametrize("path", [dialect.path for dialect in DIALECTS])
def test_the_clients_page_names_what_each_path_ignores(path: str) -> None:
    (row,) = re.findall(rf"^\| `{path}` \| (.*) \|$", (DOCS / "clients.md").read_text(), re.M)
    assert names_in(row) == ignored(path)


# --- figures -------------------------------------------------------------------------------


def test_the_speed_table_is_of_the_benchmarks() -> None:
    """Cells are "ours, theirs" there, and columns of a row for each case and load here."""
    chapter = (DOCS / "benchmarks.md").read_text().split("## Against other servers")[1]
    installed, lent = chapter.split("(`--lend-blas`")
    measured = {
        (f"{row[0]}, {how}", row[1]): f"{row[2]}, {row[3]}"
        for how, part in (("as installed", installed), ("our BLAS lent", lent))
        for row in rows(part)
        if len(row) >= 6 and row[0] != "case"
    }
    table = rows(README.read_text().split("## How fast")[1].split("## ")[0])
    shown = {
        (case, load): cell
        for case, *cells in table[1:]
        for load, cell in zip(("1", "8", "32"), cells, strict=True)
    }
    assert len(shown) == 24
    assert shown == {key: measured[key] for key in shown}
