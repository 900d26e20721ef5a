"""One log line per event on stderr: readable on a terminal, JSON when piped or asked for.

Structured fields go in `extra={"fields": {...}}`. Prompts, images and keys are never logged.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

import msgspec

from shared.log_writer import LogWriter

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")

# Ten times as fast as Python's own, which escapes all that is not ASCII (and, unlike `json.dumps`
# with an argument, is not made anew for each call).
_to_json = msgspec.json.Encoder(enc_hook=str).encode
_to_ascii_json = json.JSONEncoder(default=str).encode


def configure(level: str, log_format: str, process: str) -> None:
    """Send the root logger to stderr; what waits there is written at the interpreter's exit, or by
    `logging.shutdown`.

    Args:
        level: one of `LEVELS`.
        log_format: one of `FORMATS`; "auto" is text on a terminal and JSON elsewhere.
        process: "gateway" or a worker's name; stands in every JSON line.
    """
    # What no formatter here shows need not be looked up for every line (the logging module's own
    # advice on optimization; most of all the walk up the stack to name the caller).
    logging._srcfile = None  # noqa: SLF001 - as that advice has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # None where the process was started without one: its number may be another file's by now.
    stderr: TextIO | None = sys.stderr
    handler = LogWriter(None if stderr is None else stderr.fileno())
    on_terminal = stderr is not None and stderr.isatty()
    as_json = log_format == "json" or (log_format == "auto" and not on_terminal)
    handler.setFormatter(JsonFormatter(process) if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn.access", "asyncio", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def lost_lines() -> int:
    """Return how many lines nobody read in time, since the start of this process."""
    handlers = logging.getLogger().handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, LogWriter))


def escape(text: str) -> str:
    """Return `text` on one line with control characters escaped, so that no log can be forged."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = getattr(record, "fields", {})
        tail = "".join(f" {key}={_plain(value)}" for key, value in fields.items())
        line = f"{clock} {record.levelname.lower():7} {escape(record.getMessage())}{escape(tail)}"
        if not record.exc_info:
            return line
        # Indented and escaped: what an exception says may come from outside, and must not look
        # like a line of the log.
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join((line, *(f"    {escape(words)}" for words in traceback)))


class JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "process": self.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _in_ascii(line)


def _in_ascii(line: dict[str, Any]) -> str:
    """JSON, whatever is in the line: half of a surrogate pair, or an integer of any length."""
    try:
        encoded = _to_json(line)
    except (ValueError, OverflowError, TypeError):
        return _to_ascii_json(line)
    return encoded.decode() if encoded.isascii() else _to_ascii_json(line)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
