"""A terminal client: streams answers about pictures, over several turns (`scripts/chat`)."""

from __future__ import annotations

import argparse
import base64
import json
import mimetypes
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import httpx

from scripts.called_from import go_back
from scripts.installation import command_name
from scripts.loopback import is_loopback
from shared.version import VERSION_LINE

BUSY = (429, 503)
PATIENCE_S = 300.0
"""How long a busy server is asked again; as long as it lets others wait by itself."""
CONNECT_S = 5.0
PICTURE_TYPES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic"}

HELP_TURNS = """\
Ask something; a picture's path or URL anywhere in the line is sent along. Ctrl-C stops an answer,
Ctrl-D ends, /new begins a new conversation."""


class ChatError(Exception):
    """Something the user can understand and act on."""


def main(argv: Sequence[str], output: TextIO = sys.stdout) -> int:
    arguments = parse_arguments(argv)
    try:
        pictures, question = sort_words(arguments.words)
        with Chat(arguments, output) as chat:
            if question or pictures:
                chat.ask(question or "What is in this image?", pictures)
            if arguments.interactive or not (question or pictures):
                converse(chat, output)
    except ChatError as error:
        print(f"{command_name('chat')}: {error}", file=sys.stderr)
        return 1
    return 130 if chat.was_stopped and not arguments.interactive else 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command_name("chat"), description="Ask a running server about pictures, or anything."
    )
    parser.add_argument("words", nargs="*", help="pictures (paths or URLs) and the question")
    parser.add_argument("-i", "--interactive", action="store_true", help="go on after the answer")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server")
    parser.add_argument("--model", help="which model, when several are served")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY"), help="the API key")
    parser.add_argument("--system", help="a system prompt")
    parser.add_argument("--temperature", type=float, help="0 is the most likely answer")
    parser.add_argument("--max-tokens", type=int, help="longest answer")
    parser.add_argument("--version", action="version", version=VERSION_LINE)
    return parser.parse_args(argv)


def sort_words(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the pictures among the words, as URLs, and the others as the question.

    Raises:
        ChatError: a word looks like a picture's path, and there is none.
    """
    pictures, question = [], []
    for word in words:
        url = picture_url(word)
        if url is None:
            question.append(word)
        else:
            pictures.append(url)
    return pictures, " ".join(question)


def picture_url(word: str) -> str | None:
    """Return what to send for a picture, None for an ordinary word.

    Raises:
        ChatError: the file is missing or cannot be read.
    """
    if word.startswith(("http://", "https://", "data:image/")):
        return word
    path = Path(word).expanduser()
    if " " in word and not path.suffix:
        return None
    if path.suffix.lower() not in PICTURE_TYPES:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ChatError(f"the picture {word} cannot be read: {error.strerror}") from None
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


class Chat:
    """All turns so far. A turn that fails before its first word is forgotten again."""

    def __init__(self, arguments: argparse.Namespace, output: TextIO) -> None:
        self._output = output
        self._options = {
            name: value
            for name in ("model", "temperature", "max_tokens")
            if (value := getattr(arguments, name)) is not None
        }
        self._system = arguments.system
        headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
        self._url = arguments.url.rstrip("/").removesuffix("/v1")
        # Reading has no limit of its own: the server bounds every silence and says so.
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        through_proxies = not is_loopback(self._url)
        self._client = httpx.Client(headers=headers, timeout=timeout, trust_env=through_proxies)
        self.was_stopped = False
        self.forget()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def forget(self) -> None:
        self._messages: list[dict[str, Any]] = []
        if self._system:
            self._messages.append({"role": "system", "content": self._system})

    def ask(self, question: str, pictures: Sequence[str] = ()) -> str:
        """Print the answer as it comes, and return it; Ctrl-C ends it.

        Raises:
            ChatError: there is no answer, or only a part of one.
        """
        content: str | list[dict[str, Any]] = question
        if pictures:
            content = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
            content.append({"type": "text", "text": question})
        asked = {"role": "user", "content": content}
        said: list[str] = []
        self.was_stopped = False
        try:
            for text in self._stream([*self._messages, asked]):
                said.append(text)
                print(printable(text), end="", flush=True, file=self._output)
        except KeyboardInterrupt:
            self.was_stopped = True
        finally:
            if said or self.was_stopped:
                print(" [stopped]" if self.was_stopped else "", file=self._output)
            if said:
                answer = {"role": "assistant", "content": "".join(said)}
                self._messages += [asked, answer]
        return "".join(said)

    def _stream(self, messages: list[dict[str, Any]]) -> Iterator[str]:
        body = {"messages": messages, "stream": True, **self._options}
        give_up_at = time.monotonic() + PATIENCE_S
        try:
            while True:
                with self._client.stream(
                    "POST", f"{self._url}/v1/chat/completions", json=body
                ) as reply:
                    if reply.status_code == 200:
                        yield from deltas(reply.iter_lines())
                        return
                    reply.read()
                    wait_s = come_back_s(reply)
                    if wait_s is None or time.monotonic() + wait_s > give_up_at:
                        raise ChatError(refusal(reply))
                print(f"{refusal(reply)} Waiting; Ctrl-C stops.", file=sys.stderr)
                time.sleep(wait_s)
        except httpx.ConnectError:
            raise ChatError(
                f"no server answers at {self._url}; start one with "
                f"{command_name('serve')}, or name another with --url"
            ) from None
        except httpx.InvalidURL as error:
            raise ChatError(f"--url {self._url}: {error}") from None
        except httpx.TransportError as error:
            raise ChatError(f"the connection broke: {error}") from None


def deltas(lines: Iterator[str]) -> Iterator[str]:
    """Yield the text of a stream of chunks.

    Raises:
        ChatError: the stream ends with an error, or without its `[DONE]`.
    """
    for line in lines:
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            return
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise ChatError(chunk["error"]["message"])
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text
    raise ChatError("the connection broke before the answer was complete")


def come_back_s(reply: httpx.Response) -> int | None:
    """In how many seconds a busy server wants to be asked again; None: it has other reasons."""
    seconds = reply.headers.get("Retry-After", "")
    return int(seconds) if reply.status_code in BUSY and seconds.isdecimal() else None


def refusal(reply: httpx.Response) -> str:
    """The server's own words for a status other than 200, and what to do."""
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered with status {reply.status_code}"
    if reply.status_code == 401:
        return f"{message} Here: --key KEY, or set OPENAI_API_KEY."
    if seconds := reply.headers.get("Retry-After"):
        return f"{message} Try again in about {seconds} s."
    return message


def printable(text: str) -> str:
    """Keep a model from steering the terminal: no control characters but newline and tab."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def converse(chat: Chat, output: TextIO) -> None:
    """Turn after turn until the input ends."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() its line editing
    print(HELP_TURNS, file=output)
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print(file=output)
            return
        if line == "/new":
            chat.forget()
        elif line:
            _ask_patiently(chat, line)


def _ask_patiently(chat: Chat, line: str) -> None:
    """An error ends one turn, not the conversation."""
    try:
        pictures, question = sort_words(line.split(" "))
        chat.ask(question or "What is in this image?", pictures)
    except ChatError as error:
        print(f"{error}", file=sys.stderr)


if __name__ == "__main__":
    # A shell without job control starts what it puts in the background deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    go_back()
    sys.exit(main(sys.argv[1:]))
