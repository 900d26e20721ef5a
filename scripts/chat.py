"""A terminal client: streams answers about pictures, over several turns (`scripts/chat`)."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from scripts.called_from import go_back
from scripts.installation import command_name
from scripts.own_server import OwnServer, checked, server_flags
from scripts.terminal_chat.conversation import Chat
from scripts.terminal_chat.errors import ChatError
from scripts.terminal_chat.history import history_file, kept_history
from scripts.terminal_chat.pictures import sort_words
from scripts.terminal_chat.prompt import WHAT_IS_IN_IT, Prompt
from shared.settings import OneLineParser, SettingsError
from shared.version import VERSION_LINE


def main(argv: Sequence[str], output: TextIO = sys.stdout) -> int:
    try:
        own = checked(command_name("chat"))
        options = parse_arguments(own, argv)
        key = options.key or own.api_key(options.url)
    except SettingsError as error:
        print(f"{command_name('chat')}: {error}", file=sys.stderr)
        return 2
    asked = {name: getattr(options, name) for name in ("temperature", "max_tokens")}
    try:
        pictures, question = sort_words(options.words)
        with Chat(
            options.url, key, output, model=options.model, system=options.system, **asked
        ) as chat:
            if question or pictures:
                chat.ask(question or WHAT_IS_IN_IT, pictures)
            if options.interactive or not (question or pictures):
                with kept_history(history_file()):
                    Prompt(chat, output).run()
    except ChatError as error:
        print(f"{command_name('chat')}: {error}", file=sys.stderr)
        return 1
    return 130 if chat.was_stopped and not options.interactive else 0


def parse_arguments(own: OwnServer, argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(
        prog=command_name("chat"),
        description="Ask a running server about pictures, or anything.",
        parents=[server_flags(own)],
    )
    parser.add_argument(
        "words", nargs="*", help="pictures (paths or URLs) and the question; none: at a prompt"
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="go on after the answer")
    parser.add_argument("--model", help="which model [default: the only one that is served]")
    parser.add_argument("--system", help="a system prompt [default: none]")
    parser.add_argument(
        "--temperature", type=float, help="0: the most likely answer [default: the model's]"
    )
    parser.add_argument(
        "--max-tokens", type=int, help="longest answer [default: as many as the model has room for]"
    )
    parser.add_argument("--version", action="version", version=VERSION_LINE)
    return parser.parse_args(argv)


if __name__ == "__main__":
    # A shell without job control starts what it puts in the background deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    go_back()
    sys.exit(main(sys.argv[1:]))
