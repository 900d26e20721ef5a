"""Which words of a question name pictures, and what is sent for them."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Sequence

from scripts.terminal_chat.errors import ChatError
from shared.model_path import expanded

ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif|pdf)", re.IGNORECASE)
WORD = re.compile(r"""'[^']*'|"[^"]*"|(?:\\.|[^\\\s])+""")
"""A terminal writes a file that is dropped on it in quotes, or with a backslash before blanks."""


def sort_words(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the pictures among the words, as URLs, and the others as the question.

    Raises:
        ChatError: a word looks like a picture's path, and there is none.
    """
    pictures: list[str] = []
    question: list[str] = []
    for word in words:
        if " " in word and not expanded(word).is_file():
            named, rest = sort_line(word)
            pictures += named
            question.append(rest)
        elif url := picture_url(word):
            pictures.append(url)
        else:
            question.append(word)
    return pictures, " ".join(question)


def sort_line(line: str) -> tuple[list[str], str]:
    """Do the same with a line as it was typed; quotes stay in what is a question.

    Raises:
        ChatError: as `sort_words`.
    """
    pictures: list[str] = []

    def taken(found: re.Match[str]) -> str:
        url = picture_url(bare(found[0]))
        if url is None:
            return found[0]
        pictures.append(url)
        return ""

    question = WORD.sub(taken, line).strip()
    return pictures, re.sub(" +", " ", question) if pictures else question


def bare(word: str) -> str:
    """A path without what the terminal has put around or into it."""
    return word[1:-1] if word[0] in "'\"" and len(word) > 1 else re.sub(r"\\(.)", r"\1", word)


def picture_url(word: str) -> str | None:
    """Return what to send for a picture, None for an ordinary word.

    Raises:
        ChatError: the file is missing or cannot be read.
    """
    if word.startswith(("http://", "https://", "data:image/")):
        return word
    path = expanded(word)
    if not ENDING.fullmatch(path.suffix):
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ChatError(f"the picture {word} cannot be read: {error.strerror}") from None
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
