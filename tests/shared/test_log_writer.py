"""Log lines go out on a thread: whoever logs never waits, and what is lost is counted."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Iterator

import pytest

from shared.log_writer import LogWriter
from tests.waiting import await_condition


class Pipe:
    """A pipe with a writer at one end."""

    def __init__(self, **options: int) -> None:
        self.read_end, self.write_end = os.pipe()
        self._reader = os.fdopen(self.read_end, "rb", buffering=0)
        self.writer = LogWriter(self.write_end, **options)

    def log(self, words: str) -> None:
        self.writer.handle(logging.LogRecord("x", logging.INFO, "f", 1, words, (), None))

    def fill(self) -> int:
        """Leave no room; return the number of bytes that did."""
        os.set_blocking(self.write_end, False)
        size = 0
        while select.select([], [self.write_end], [], 0)[1]:
            size += os.write(self.write_end, b"." * select.PIPE_BUF)
        os.set_blocking(self.write_end, True)
        return size

    def close(self) -> None:
        self._reader.close()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.read_end, size - len(data))
        return data

    def lines(self, count: int) -> list[str]:
        return [self._reader.readline().decode().rstrip("\n") for _ in range(count)]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(max_waiting_bytes=1000)
    yield made
    made.writer.flush()
    made.close()


def test_lines_come_whole_and_in_order(pipe: Pipe) -> None:
    for number in range(20):
        pipe.log(str(number))
    pipe.writer.flush()
    assert pipe.lines(20) == [str(number) for number in range(20)]


def test_a_full_pipe_stops_nobody_and_what_is_lost_is_told(pipe: Pipe) -> None:
    filled = pipe.fill()
    pipe.log("the first")
    # The writer has taken it and waits for room; what comes now waits in the queue.
    await_condition(lambda: not pipe.writer.waiting_bytes, "the writer has taken the line")
    for _ in range(300):
        pipe.log("waiting.")
    kept = 1000 // len("waiting.\n")
    assert pipe.writer.lost == 300 - kept
    pipe.read(filled)
    told = f"{300 - kept} log lines were lost: nobody read them in time"
    assert pipe.lines(2 + kept) == ["the first", told, *["waiting."] * kept]
    pipe.log("and on")
    assert pipe.lines(1) == ["and on"]


def test_the_end_waits_for_the_last_lines_but_not_for_ever(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.log_writer.FLUSH_S", 0.1)
    filled = pipe.fill()
    pipe.log("last")
    pipe.writer.flush()
    reader = threading.Thread(target=pipe.read, args=(filled,))
    monkeypatch.setattr("shared.log_writer.FLUSH_S", 60)
    reader.start()
    pipe.writer.flush()
    reader.join()
    assert pipe.lines(1) == ["last"]


def test_a_shared_end_that_is_non_blocking_loses_nothing(pipe: Pipe) -> None:
    filled = pipe.fill()
    os.set_blocking(pipe.write_end, False)
    pipe.log("late")
    pipe.read(filled)
    assert pipe.lines(1) == ["late"]
    assert pipe.writer.lost == 0


@pytest.mark.parametrize("nowhere", [True, False], ids=["no descriptor", "no reader"])
def test_lines_that_cannot_be_written_are_counted(nowhere: bool) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = LogWriter(None if nowhere else write_end)
    for _ in range(3):
        writer.handle(logging.LogRecord("x", logging.INFO, "f", 1, "words", (), None))
    writer.flush()
    assert writer.lost == 3
    os.close(write_end)


def test_a_line_that_cannot_be_formatted_fails_nobody(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.writer.handle(logging.LogRecord("x", logging.INFO, "f", 1, "%d", ("words",), None))
    assert pipe.writer.lost == 1
    assert capsys.readouterr().err == ""
