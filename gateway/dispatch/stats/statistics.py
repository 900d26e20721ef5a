"""What has happened so far: counters, rates, recent requests and the estimate behind Retry-After.

Fed with one `JobRecord` for each job that ends, so that the log line, `/v1/queue/stats`,
`/metrics` and the page can never disagree.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from typing import Any

import msgspec

from gateway.dispatch.core.jobs import JobRecord
from gateway.dispatch.stats.metrics import Metrics
from gateway.dispatch.stats.token_estimate import estimate_tokens

log = logging.getLogger("gateway.requests")

REQUEST_KINDS = ("vision", "vision_stream", "text", "text_stream")
DROP_REASONS = ("version", "malformed", "failed", "refused_key", "bad_handshake")
"""Why a message never reached the core, which tells of others. All are told from the start, so that
a rate has something to rise from."""

RECENT_REQUESTS = 100
SERVICE_TIME_WEIGHT = 0.1
FIRST_GUESS_SERVICE_S = 1.0


class Finished(msgspec.Struct, frozen=True):
    """One line of the history. Times in seconds; `ended` is a wall-clock Unix time.

    `tokens_per_second` is over the whole time the request held its slot, prefill included.
    `fetch_s` is from the slot until the pictures were there, None when they never were; `decode_s`
    from the first token to the end, by the worker's clock where it has told it: of a whole answer
    it may send nothing before the end.
    """

    request_id: str
    kind: str
    model: str
    worker: str
    outcome: str
    error_code: str | None
    ended: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    drafted_tokens: int
    accepted_draft_tokens: int
    queue_s: float
    fetch_s: float | None
    first_token_s: float | None
    decode_s: float
    total_s: float
    tokens_per_second: float
    migrations: int


class ServiceTimes:
    """A moving average of how long a slot is held, for streams and for non-streaming jobs."""

    def __init__(self) -> None:
        self._average_s: dict[bool, float] = {}

    def observe(self, stream: bool, held_s: float) -> None:
        before = self._average_s.get(stream, held_s)
        self._average_s[stream] = before + SERVICE_TIME_WEIGHT * (held_s - before)

    def wait_s(self, stream: bool, ahead: int, slots: int) -> float:
        """Expected seconds until a slot is free for somebody who has `ahead` before them."""
        average_s = self._average_s.get(stream, FIRST_GUESS_SERVICE_S)
        return average_s * (ahead + 1) / slots


class Statistics:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.dropped: Counter[str] = Counter(dict.fromkeys(DROP_REASONS, 0))
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.total_tokens = 0
        self.total_time_s = 0.0
        self.recent: deque[Finished] = deque(maxlen=RECENT_REQUESTS)
        self._rates: deque[float] = deque(maxlen=RECENT_REQUESTS)
        self._service_times = ServiceTimes()

    def retry_after_s(self, stream: bool, ahead: int, slots: int) -> float:
        return self._service_times.wait_s(stream, ahead, slots)

    def refused(self, route: str, kind: str) -> None:
        self.refusals[kind] += 1
        self.metrics.refused(route, kind)

    def ended(self, record: JobRecord) -> None:
        """Count a job that was admitted and is now over, whatever became of it. One that only
        counts tokens is no request in the statistics."""
        if record.only_counts:
            return
        line = self._line(record)
        self.outcomes[line.outcome] += 1
        self.kinds[record.request_type] += 1
        self.total_tokens += line.completion_tokens
        self.total_time_s += line.total_s
        if line.outcome == "finished" and line.tokens_per_second > 0:
            self._rates.append(line.tokens_per_second)
        if record.at.slot_at is not None and record.at.over_at is not None:
            self._service_times.observe(record.stream, record.at.over_at - record.at.slot_at)
        self.recent.append(line)
        self.metrics.ended(record, line.completion_tokens)
        self._log(record, line)

    def report(self) -> dict[str, Any]:
        """The `metrics` part of `/v1/queue/stats`."""
        total = self.outcomes.total()
        errors = self.outcomes["failed"] + self.outcomes["timed_out"]
        rates = self._rates
        return {
            "total_requests": total,
            "total_tokens": self.total_tokens,
            "total_time": round(self.total_time_s, 3),
            "request_types": {kind: self.kinds[kind] for kind in REQUEST_KINDS},
            "error_count": errors,
            "error_rate": round(errors / total, 4) if total else 0.0,
            "performance": {
                "avg_tps": round(self.average_rate, 2),
                "max_tps": round(max(rates, default=0.0), 2),
                "min_tps": round(min(rates, default=0.0), 2),
                "recent_requests": len(self.recent),
            },
        }

    @property
    def average_rate(self) -> float:
        """Tokens per second of a request, averaged over the recent ones."""
        return sum(self._rates) / len(self._rates) if self._rates else 0.0

    def _line(self, record: JobRecord) -> Finished:
        at = record.at
        over_at = at.over_at if at.over_at is not None else at.arrived_at
        total_s = over_at - at.arrived_at
        usage = record.usage
        tokens = record.completion_tokens or estimate_tokens(record.words, record.characters)
        held_s = over_at - at.slot_at if at.slot_at is not None else 0.0
        return Finished(
            request_id=record.request_id,
            kind=record.request_type,
            model=record.pool,
            worker=record.worker,
            outcome=record.outcome or "failed",
            error_code=record.error_code,
            ended=time.time(),
            prompt_tokens=usage.prompt_tokens if usage else record.prompt_tokens,
            completion_tokens=usage.completion_tokens if usage else tokens,
            cached_tokens=usage.cached_tokens if usage else 0,
            drafted_tokens=usage.drafted_tokens if usage else 0,
            accepted_draft_tokens=usage.accepted_draft_tokens if usage else 0,
            queue_s=(at.slot_at if at.slot_at is not None else over_at) - at.arrived_at,
            fetch_s=_between(at.slot_at, at.submitted_at),
            first_token_s=at.first_token_at - at.arrived_at if at.first_token_at else None,
            decode_s=min(total_s, _decode_s(record, over_at)),
            total_s=total_s,
            tokens_per_second=tokens / held_s if held_s > 0 else 0.0,
            migrations=record.migrations,
        )

    def _log(self, record: JobRecord, line: Finished) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        fields: dict[str, Any] = {
            "request_id": line.request_id,
            "type": line.kind,
            "tokens": line.completion_tokens,
            "words": record.words,
            "chars": record.characters,
            "seconds": round(line.total_s, 3),
            "tps": round(line.tokens_per_second, 2),
            "avg_tps": round(self.average_rate, 2),
            "queue_s": round(line.queue_s, 4),
            "prompt_tokens": line.prompt_tokens,
            "cached_tokens": line.cached_tokens,
            "model": line.model,
            "worker": line.worker,
        }
        if line.first_token_s is not None:
            fields["first_token_s"] = round(line.first_token_s, 4)
        if line.migrations:
            fields["migrations"] = line.migrations
        if line.error_code:
            fields["code"] = line.error_code
        log.info("request %s", line.outcome, extra={"fields": fields})


def _decode_s(record: JobRecord, over_at: float) -> float:
    if record.timings is not None and record.timings.decode_s:
        return record.timings.decode_s
    return _between(record.at.first_token_at, over_at) or 0.0


def _between(begin: float | None, end: float | None) -> float | None:
    return end - begin if begin is not None and end is not None else None
