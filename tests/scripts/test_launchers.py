"""The launchers find the project, mend its environment and hand on where they were called from.

They run in a small copy of the project, with scripts in the place of every Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

TEXTS = {
    path.name: text
    for path in sorted((ROOT / "scripts").iterdir())
    if path.is_file() and "environment.sh" in (text := path.read_text()) and not path.suffix
}
"""Of the launchers in shell, by name."""

WITH_PATHS = ("serve", "chat", "doctor", "keys")
"""Those that users name files to, from the folder they are in."""

PYTHON = """\
#!/bin/sh
case "$*" in
    *"import pip"*) [ -e "{environment}/pip" ] ;;
    *"pip install"*) echo installed >>"{record}" ;;
    *"-m venv"*)
        echo "made $*" >>"{record}"
        rm -rf "{environment}" && mkdir -p "{environment}/bin" || exit 1
        [ -e "{record}.broken" ] && exit 1
        cp "$0" "{environment}/bin/python" && touch "{environment}/pip" ;;
    -c*) ;;
    --version) echo Python 3.99 ;;
    *) echo "$PWD|${{CALLED_FROM-}}|$*" ;;
esac
"""
"""Does what is asked of a Python and its environment, and says how it was called."""


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = root / ".venv"
        self._record = root / "record"
        self._path = root / "bin"
        for folder in ("scripts", "bin"):
            (root / folder).mkdir(parents=True)
        for name in (*TEXTS, "environment.sh"):
            shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
        for path in re.findall(r"\S*requirements\.txt", " ".join(TEXTS.values())):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        self.program("python3.13", PYTHON.format(environment=self.environment, record=self._record))
        for checker in ("ruff", "mypy"):
            self.program(checker, "#!/bin/sh\n")

    def program(self, name: str, text: str) -> None:
        (self._path / name).write_text(text)
        (self._path / name).chmod(0o755)

    def break_python(self) -> None:
        Path(f"{self._record}.broken").touch()

    def run(
        self, launcher: Path | str, here: Path, *words: str
    ) -> subprocess.CompletedProcess[str]:
        path = f"{self._path}:{os.environ['PATH']}"
        return subprocess.run(
            [launcher, *words],
            cwd=here,
            env={"PATH": path, "CDPATH": f"{here}:{self.root.parent}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def serve(self) -> str:
        """Start, and return what was made and installed for it."""
        self._record.write_text("")
        done = self.run(self.root / "scripts" / "serve", self.root)
        assert done.returncode == 0, done.stderr
        return " ".join(line.split()[0] for line in self._record.read_text().splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path.resolve() / "the project")


@pytest.mark.parametrize("name", TEXTS)
def test_a_launcher_works_from_anywhere_and_through_links(project: Project, name: str) -> None:
    here = project.root.parent / "my folder"
    (here / "scripts").mkdir(parents=True)
    (here / "scripts" / "__init__.py").touch()
    (here / "near").symlink_to(Path("..") / "the project" / "scripts" / name)
    (here / "scripts" / name).symlink_to(here / "near")
    launchers = ("../the project/scripts/" + name, "./near", str(here / "scripts" / name))
    for launcher in launchers:
        done = project.run(launcher, here, "a b")
        assert done.returncode == 0, done.stderr
        folder, called_from, words = done.stdout.strip().split("|")
        assert folder == str(project.root)
        assert called_from == (str(here) if name in WITH_PATHS else "")
        assert words.endswith("a b")


def test_the_environment_is_made_once(project: Project) -> None:
    assert project.serve() == "made installed"
    assert project.serve() == ""
    (project.root / "requirements.txt").write_text("more\n")
    assert project.serve() == "installed"


def test_an_environment_without_its_python_is_made_anew(project: Project) -> None:
    project.serve()
    python = project.environment / "bin" / "python"
    python.unlink()
    python.symlink_to(project.root / "gone")
    assert project.serve() == "made installed"


def test_an_environment_whose_making_was_interrupted_is_made_anew(project: Project) -> None:
    project.serve()
    (project.environment / "pip").unlink()
    assert project.serve() == "made installed"


def test_an_environment_that_cannot_be_made_is_not_left_behind(project: Project) -> None:
    project.break_python()
    done = project.run(project.root / "scripts" / "serve", project.root)
    assert done.returncode == 1
    assert "could not be made" in done.stderr
    assert not project.environment.exists()
