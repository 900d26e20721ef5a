"""The command `scripts/clients`: other people's frameworks against both tiers and the demo model.

scripts/clients [NAME...]      all, or those that are named
scripts/clients --write        and puts the table of all into docs/clients.md
scripts/clients open-webui     alone: it is large, and a browser drives it
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path
from typing import Any

from tests.clients.conftest import DEMO, TIMEOUT
from tests.clients.frameworks import open_webui
from tests.clients.frameworks.catalogue import FRAMEWORKS, Framework
from tests.clients.frameworks.right import RIGHT, RIGHT_IN_OPEN_WEBUI, judged
from tests.clients.frameworks.trying import outcomes
from tests.clients.installed import python_packages
from tests.processes import ROOT, serving

DOCUMENT = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- frameworks tried -->", "<!-- end of frameworks tried -->"
BOUNDED = ("--max-context", "18000")
"""The demo model has not learned to end behind so many tools: its context ends it."""
Results = dict[Framework, dict[str, bool]]


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    names = [framework.name for framework in FRAMEWORKS]
    parser = argparse.ArgumentParser(
        prog="scripts/clients", description="Try other people's clients."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; else all")
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    options = parser.parse_args(arguments)
    if open_webui.NAME in options.names and len(options.names) > 1:
        parser.error(f"{open_webui.NAME} is tried alone")
    unknown = set(options.names) - {*names, open_webui.NAME}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.write and options.names:
        parser.error("--write tries them all")
    return options


def tried(framework: Framework, base_url: str) -> dict[str, bool]:
    """Try one and say what came of it."""
    told: dict[str, Any] = {}
    try:
        told = outcomes(framework, base_url)
        right = judged(told)
    except (AssertionError, OSError) as error:
        print(f"{framework.name}: {error}", file=sys.stderr)
        right = dict.fromkeys(RIGHT, False)
    said = " ".join(
        f"{name}: {'right' if is_right else 'WRONG'}" for name, is_right in right.items()
    )
    print(f"{framework.name} {framework.version}  {said}", flush=True)
    for name in (name for name in told if not right[name]):
        print(f"    {name}: {told[name]}", flush=True)
    return right


def try_open_webui() -> int:
    """Try it and say what came of it; the exit code."""
    python = python_packages(open_webui.PACKAGES)
    # Without the others' time limit: its first message is 17,000 tokens long.
    with serving(worker_flags=(*DEMO, *BOUNDED)) as service:
        told = open_webui.outcomes(str(python), f"{service.url}/v1")
    right = {name: is_right(told.get(name)) for name, is_right in RIGHT_IN_OPEN_WEBUI.items()}
    for name, is_right in right.items():
        print(f"{name}: {'right' if is_right else 'WRONG'}: {told.get(name)}")
    return 0 if all(right.values()) else 1


def table(results: Results, day: datetime.date) -> str:
    """Return the table of docs/clients.md."""
    head = ("framework", "version", "speaks", *RIGHT)
    lines = [head, ["---"] * len(head)]
    for framework, right in results.items():
        cells = [
            "–" if name not in right else "right" if right[name] else "wrong" for name in RIGHT
        ]
        lines.append([framework.label, framework.version, framework.speaks, *cells])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Tried on {day}, with the demo model, by `scripts/clients`:\n\n{rows}"


def write(text: str, document: Path = DOCUMENT) -> None:
    """Replace what stands between the markers."""
    old = document.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    assert len(pattern.findall(old)) == 1, "the markers of the table are missing"
    document.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", old))


def main(arguments: list[str]) -> int:
    """Try them; the exit code is 1 where something is wrong."""
    options = parse_arguments(arguments)
    if options.names == [open_webui.NAME]:
        return try_open_webui()
    chosen = [one for one in FRAMEWORKS if not options.names or one.name in options.names]
    with serving(gateway_flags=TIMEOUT, worker_flags=DEMO) as service:
        results = {one: tried(one, f"{service.url}/v1") for one in chosen}
    if options.write:
        write(table(results, datetime.date.today()))
    return 0 if all(all(right.values()) for right in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
