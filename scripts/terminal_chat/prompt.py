"""Turn after turn at a prompt; what begins with a slash is for the client, not for the model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TextIO

from scripts.terminal_chat.conversation import Chat
from scripts.terminal_chat.errors import ChatError
from scripts.terminal_chat.pictures import sort_line
from shared.settings import meant

HELP = """\
A picture's path or URL anywhere in a line is sent along. Ctrl-C stops an answer, Ctrl-D ends.
  /image PATH    add a picture to the next question
  /model         list the models; /model NAME asks that one from now on
  /clear         forget the conversation and begin a new one
  /help          show this"""
INVITATION = "Ask something; /help shows what else can be done here."
WHAT_IS_IN_IT = "What is in this image?"
COMMANDS = ("/help", "/image", "/model", "/clear", "/new", "/exit")
COMMAND = re.compile(r"(/[A-Za-z]*)(?:\s+(.*))?", re.DOTALL)


class Prompt:
    def __init__(self, chat: Chat, output: TextIO) -> None:
        self._chat = chat
        self._output = output
        self._pictures: list[str] = []
        self._ended = False

    def run(self) -> None:
        """Read lines until they end, or the user does."""
        print(INVITATION, file=self._output)
        while not self._ended:
            try:
                line = input("> ").strip()
            except (EOFError, KeyboardInterrupt):
                print(file=self._output)
                return
            try:
                self._take(line)
            except ChatError as error:
                # It ends one turn, not the conversation.
                print(error, file=sys.stderr)

    def _take(self, line: str) -> None:
        command = COMMAND.fullmatch(line)
        if command and not Path(line).is_file():
            self._obey(command[1].lower(), command[2] or "")
        elif line:
            named, question = sort_line(line)
            pictures = [*self._pictures, *named]
            self._chat.ask(question or WHAT_IS_IN_IT, pictures)
            self._pictures.clear()

    def _obey(self, command: str, rest: str) -> None:
        match command:
            case "/help":
                print(HELP, file=self._output)
            case "/image":
                self._add_pictures(rest)
            case "/model":
                self._show_models() if not rest else self._choose_model(rest)
            case "/clear" | "/new":
                self._chat.forget()
                self._pictures.clear()
                print("A new conversation.", file=self._output)
            case "/exit" | "/quit":
                self._ended = True
            case _:
                known = meant(command, COMMANDS) or "; /help lists the commands."
                raise ChatError(f"There is no {command} here{known}")

    def _add_pictures(self, rest: str) -> None:
        named, other = sort_line(rest)
        if other or not named:
            raise ChatError(f"{other!r} is no picture." if other else "Which one? /image PATH")
        self._pictures += named
        many = len(self._pictures)
        print(f"{many} picture{'s' * (many > 1)} for the next question.", file=self._output)

    def _show_models(self) -> None:
        listed = self._chat.models()
        # An alias has an entry of its own, which lists itself among the aliases.
        for model in (one for one in listed if one["id"] not in one.get("aliases", [])):
            mark = "*" if model["id"] == self._chat.model else " "
            status = model.get("status", {}).get("value", "")
            print(f"{mark} {model['id']}  {status}".rstrip(), file=self._output)

    def _choose_model(self, name: str) -> None:
        names = [model["id"] for model in self._chat.models()]
        if name not in names:
            raise ChatError(
                f"There is no model {name}{meant(name, names) or '; /model lists them.'}"
            )
        self._chat.model = name
        print(f"{name} answers from now on.", file=self._output)
