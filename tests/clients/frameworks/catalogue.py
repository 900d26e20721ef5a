"""The frameworks that are tried: one program each, in an environment of its own."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
HEADER = re.compile(r"^# /// script\n((?:#.*\n)+?)# ///$", re.MULTILINE)
"""What a program of Python needs, as its own first lines say (PEP 723)."""


@dataclass(frozen=True)
class Framework:
    """`name` is what the command calls it, `label` what its users do.

    `in_suite`: every run of the suite installs and tries it. Those are the lightest, one for Python
    and one for Node: 79 MB in 21 s of one core, and 25 MB in 12 s.
    """

    name: str
    label: str
    speaks: str
    in_suite: bool = False

    @property
    def program(self) -> Path:
        stem = f"use_{self.name.replace('-', '_')}"
        found = [*PROGRAMS.glob(f"**/{stem}.py"), *PROGRAMS.glob(f"**/{stem}.mjs")]
        return found[0]

    @property
    def is_node(self) -> bool:
        return self.program.suffix == ".mjs"

    @property
    def packages(self) -> list[str]:
        """What is installed, each with its version; the first is what it is known by."""
        if self.is_node:
            wanted = json.loads((self.program.parent / "package.json").read_text())["dependencies"]
            return [f"{name}=={version}" for name, version in wanted.items()]
        header = HEADER.search(self.program.read_text())
        assert header, f"{self.program} does not say what it needs"
        declared = tomllib.loads(re.sub(r"^# ?", "", header[1], flags=re.MULTILINE))
        packages: list[str] = declared["dependencies"]
        return packages

    @property
    def version(self) -> str:
        return self.packages[0].rpartition("==")[2]


FRAMEWORKS = (
    Framework("instructor", "instructor", "chat", in_suite=True),
    Framework("litellm", "litellm", "chat"),
    Framework("pydantic-ai", "Pydantic AI", "chat"),
    Framework("strands", "Strands Agents", "chat"),
    Framework("haystack", "Haystack", "chat"),
    Framework("llama-index", "LlamaIndex `OpenAILike`", "chat"),
    Framework("smolagents", "smolagents", "chat"),
    Framework("openai-agents", "openai-agents", "responses"),
    Framework("ai-sdk", "Vercel's AI SDK", "chat", in_suite=True),
)
