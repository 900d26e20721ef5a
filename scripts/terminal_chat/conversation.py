"""A conversation with a server: what was said so far, and the answer as it comes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import httpx

from scripts.installation import command_name
from scripts.loopback import is_loopback
from scripts.terminal_chat.errors import ChatError

BUSY = (429, 503)
RETRY_TIMEOUT_S = 300.0
"""How long a busy server is asked again; as long as it lets others wait by itself."""
CONNECT_S = 5.0


class Chat:
    """All turns so far. A turn that fails before its first word is forgotten again."""

    def __init__(
        self,
        url: str,
        key: str,
        output: TextIO,
        *,
        model: str | None = None,
        system: str | None = None,
        **options: float | None,
    ) -> None:
        """
        Args:
            url: of the server, without `/v1`.
            key: an API key; empty: none is shown.
            options: further parameters of each request; None: the server's own default.
        """
        self._output = output
        self._url = url
        self._system = system
        self._options = {name: value for name, value in options.items() if value is not None}
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Reading has no limit of its own: the server bounds every silence and says so.
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        self._client = httpx.Client(
            headers=headers, timeout=timeout, trust_env=not is_loopback(self._url)
        )
        self.model = model
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

    def models(self) -> list[dict[str, Any]]:
        """What the server lists, each with its `id`.

        Raises:
            ChatError: it cannot be asked.
        """
        with self._plain_words():
            reply = self._client.get(f"{self._url}/v1/models")
        if reply.status_code != 200:
            raise ChatError(refusal(reply))
        try:
            return list(reply.json()["data"])
        except (ValueError, KeyError, TypeError):
            raise ChatError(f"what answers at {self._url} is no such server") from None

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
        if self.model is not None:
            body["model"] = self.model
        give_up_at = time.monotonic() + RETRY_TIMEOUT_S
        with self._plain_words():
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

    @contextmanager
    def _plain_words(self) -> Iterator[None]:
        try:
            yield
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
        error = reply.json()["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError):
        message, param = f"the server answered with status {reply.status_code}", None
    if reply.status_code == 401:
        return f"{message} Here: --key KEY, or set OPENAI_API_KEY."
    if param == "model":
        return f"{message} Here: --model NAME, or /model NAME in a conversation."
    if seconds := reply.headers.get("Retry-After"):
        return f"{message} Try again in about {seconds} s."
    return message


def printable(text: str) -> str:
    """Keep a model from steering the terminal: no control characters but newline and tab."""
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))
