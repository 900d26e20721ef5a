"""Which worker takes a job: the one that probably holds its images and its prefix in cache,
unless that one is clearly busier than the idlest.

A prompt to be counted goes to whoever is asked about the fewest.

Rendezvous hashing needs no shared state: every gateway ranks the workers for a conversation in
the same order, and when a worker comes or goes only its own conversations move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from gateway.dispatch.core.jobs import Kind
from gateway.dispatch.core.sessions import Session
from shared.messages import Job, TextPart

AFFINITY_SLACK = 0.25
"""How much more loaded (share of slots) the preferred worker may be than the idlest one."""

HEAD_CHARACTERS = 2_000
HEAD_TOKENS = 500


def affinity_key(job: Job) -> bytes:
    """A digest of what marks a conversation: its first image, else its opening text.

    The image alone, because the costly part (its features) is the same in every conversation
    about it; the salt, because tenants share no cache.
    """
    mark = job.images[0].sha256 if job.images else "".join(_opening(job))[:HEAD_CHARACTERS]
    return hashlib.blake2b(f"{job.cache_salt}:{mark}".encode(), digest_size=16).digest()


def _opening(job: Job) -> Iterator[str]:
    """The texts up to the first of a user, none of them longer than what is looked at."""
    yield (job.prompt or "")[:HEAD_CHARACTERS]
    yield str(job.prompt_ids[:HEAD_TOKENS])
    for message in job.messages:
        for part in message.content:
            if isinstance(part, TextPart):
                yield part.text[:HEAD_CHARACTERS]
        if message.role == "user":
            return


def choose(job: Job, kind: Kind, candidates: Iterable[Session]) -> Session | None:
    """Return the session to send to, or None when nobody has room."""
    with_room = [session for session in candidates if session.room(kind) > 0]
    if not with_room:
        return None
    if len(with_room) == 1:
        return with_room[0]
    if kind == "counting":
        return min(with_room, key=lambda session: len(session.counting))
    key = affinity_key(job)
    idlest = min(with_room, key=lambda session: session.load)
    preferred = max(with_room, key=lambda session: _rank(key, session.identity))
    if preferred.load - idlest.load > AFFINITY_SLACK:
        return idlest
    return preferred


def _rank(key: bytes, worker: str) -> bytes:
    """The key is a digest, so that a long prompt is hashed once and not once for each worker."""
    return hashlib.blake2b(key + worker.encode(), digest_size=8).digest()
