"""The command `proxy-oai-compat` of an installed wheel: one word for each of `scripts/...`."""

from __future__ import annotations

import os
import runpy
import sys

from scripts.installation import IS_CLONE, PROGRAM
from shared.settings import meant
from shared.version import VERSION_LINE

COMMANDS = {
    "serve": ("scripts.launch.serve", "start gateway and worker on this machine"),
    "gateway": ("gateway", "start a gateway alone"),
    "worker": ("worker", "start a worker alone"),
    "chat": ("scripts.chat", "talk to a running server from the terminal"),
    "models": ("scripts.models", "list, load and unload models"),
    "workers": ("scripts.workers", "list, drain and restart workers"),
    "keys": ("scripts.keys", "make keys for workers on other machines"),
    "doctor": ("scripts.doctor_checks", "say what is wrong with a set-up and how to mend it"),
}


def usage() -> str:
    lines = [f"  {name:10}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [flags of the command]",
            "",
            "An OpenAI-compatible server for vision-language models on Apple silicon.",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help lists the flags of a command.",
        ]
    )


def main() -> None:
    """Run the command that is named first; ends as that command ends, with 2 for no such one."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else 2)
    name, *rest = arguments
    if name == "--version":
        print(VERSION_LINE)
        return
    if name not in COMMANDS:
        print(
            f"{PROGRAM}: no command {name!r}{meant(name, COMMANDS)}\n\n{usage()}", file=sys.stderr
        )
        raise SystemExit(2)
    if not IS_CLONE:
        # The processes that are started from here are modules of the wheel, whatever lies in the
        # folder that the user is in (`python -m` looks there first).
        os.environ["PYTHONSAFEPATH"] = "1"
    sys.argv = [f"{PROGRAM} {name}", *rest]
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
