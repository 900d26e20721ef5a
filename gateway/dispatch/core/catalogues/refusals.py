"""Why a model that somebody lists is loaded nowhere, in words and figures."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dispatch.core.catalogues.demand import Option, on_the_way, refused
from gateway.dispatch.core.catalogues.hosts import Host
from gateway.errors import ApiError, DeadlinePassed, ModelTooLarge, NoMemory, NoWorker
from shared.messages import CatalogueEntry

NO_MEMORY_RETRY_S = 10.0
LOADING_RETRY_S = 5.0
MOST_RETRY_S = 3600.0
MOST_SHOWN = 8

KIB = 1024
UNITS = ("bytes", "KiB", "MiB", "GiB")


def check_loads(model: str, options: Sequence[Option]) -> None:
    """
    Raises:
        ModelTooLarge, NoMemory, NoWorker: no host loads the model.
    """
    if all(refused(entry) for _, entry in options):
        raise why_not_loaded(model, options)


def why_not_loaded(model: str, options: Sequence[Option]) -> ApiError:
    """Why no host loads the model.

    Args:
        options: all who list it, each of which refuses: there is at least one.
    """
    small = [(host, entry) for host, entry in options if entry.room == "never"]
    if len(small) == len(options):
        return _too_large(model, small)
    pinned = [
        (host, entry)
        for host, entry in options
        if entry.room == "pinned" and not (entry.status == "failed" and entry.retry_s > 0)
    ]
    if pinned:
        return no_memory(model, pinned)
    failed = [entry for _, entry in options if entry.status == "failed"]
    soonest = min(failed, key=lambda entry: entry.retry_s)
    reason = soonest.error.removesuffix(".") or "no reason was given"
    return NoWorker(
        f"The model {model!r} could not be loaded: {reason}. Its worker's log has more.",
        retry_after_s=min(soonest.retry_s, MOST_RETRY_S),
    )


def not_ready(options: Sequence[Option]) -> ApiError | None:
    """Why none of these models can be asked for, when none can; None: there are none."""
    coming = [entry for _, entry in options if on_the_way(entry)]
    if coming:
        best = max(coming, key=lambda entry: entry.fraction)
        return NoWorker(
            f"The model {best.name!r} is {best.status} ({_done(best)}); try again in a moment.",
            retry_after_s=LOADING_RETRY_S,
            code="loading",
        )
    if not options:
        return None
    model = options[0][1].name
    if any(not refused(entry) for _, entry in options):
        return NoWorker(
            f"The model {model!r} is about to be loaded; try again in a moment.",
            retry_after_s=LOADING_RETRY_S,
            code="loading",
        )
    return why_not_loaded(model, options[:1])


def not_loaded_in_time(model: str, options: Sequence[Option], limit_s: float) -> ApiError:
    """What ends the wait for a model that was still asked for."""
    here = [(host, entry) for host, entry in options if host.here]
    names = ", ".join(sorted({host.name for host, _ in options}))
    if not here:
        return NoWorker(
            f"The model {model!r} was not loaded: no worker that lists it is connected any more "
            f"({names}).",
            retry_after_s=LOADING_RETRY_S,
        )
    coming = [entry for _, entry in here if on_the_way(entry)]
    busy = [(host, entry) for host, entry in here if entry.room == "busy"]
    if busy and not coming:
        return no_memory(model, busy)
    return DeadlinePassed(_too_slow(model, coming, names, limit_s))


def _too_slow(model: str, coming: Sequence[CatalogueEntry], names: str, limit_s: float) -> str:
    if not coming:
        return f"The model {model!r} was asked of {names}, and was not loaded within {limit_s:g} s."
    best = max(coming, key=lambda entry: entry.fraction)
    if best.status == "loaded":
        return (
            f"The model {model!r} is loaded, but took no requests within {limit_s:g} s: its worker "
            "may have been told to drain."
        )
    return (
        f"The model {model!r} was still {best.status} ({_done(best)}) after {limit_s:g} s; try "
        "again later, or start the gateway with a longer --queue-timeout."
    )


def _done(entry: CatalogueEntry) -> str:
    done = f"{min(1.0, entry.fraction):.0%} done"
    if entry.status != "downloading" or not entry.total_bytes:
        return done
    return f"{done}, {size(entry.done_bytes)} of {size(entry.total_bytes)}"


def no_memory(model: str, options: Sequence[Option]) -> NoMemory:
    """How much the model takes, and what holds the memory of the host that has the most free."""
    host, entry = max(options, key=lambda option: option[0].free_bytes)
    catalogue = host.catalogue
    return NoMemory(
        f"There is no room for the model {model!r} now: it takes {_size(entry.memory_bytes)}, and "
        f"of the {size(catalogue.memory_budget_bytes)} that models may take on {host.name}, "
        f"{size(host.free_bytes)} are free; the rest is held by {_holders(host)}.",
        retry_after_s=NO_MEMORY_RETRY_S,
    )


def _too_large(model: str, options: Sequence[Option]) -> ModelTooLarge:
    host, entry = max(options, key=lambda option: option[0].catalogue.memory_budget_bytes)
    return ModelTooLarge(
        f"The model {model!r} takes {_size(entry.memory_bytes)}, and the most that all models "
        f"together may take on any host here is {size(host.catalogue.memory_budget_bytes)} "
        f"({host.name}; a worker's --memory-budget-gib).",
        param="model",
    )


def _holders(host: Host) -> str:
    loaded = [entry for entry in host.catalogue.models if on_the_way(entry)]
    loaded.sort(key=lambda entry: -entry.memory_bytes)
    shown = [_holder(entry) for entry in loaded[:MOST_SHOWN]]
    if len(loaded) > MOST_SHOWN:
        shown.append(f"{len(loaded) - MOST_SHOWN} more")
    return ", ".join(shown) or "no model that it names"


def _holder(entry: CatalogueEntry) -> str:
    facts = [_size(entry.memory_bytes)]
    if entry.pinned:
        facts.append("pinned")
    if entry.status != "loaded":
        facts.append(entry.status)
    elif entry.idle_s is None:
        facts.append("busy")
    return f"{entry.name} ({', '.join(facts)})"


def _size(model_bytes: int) -> str:
    """Of a model; a host may not know yet what it takes."""
    return size(model_bytes) if model_bytes else "an unknown amount"


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    amount, unit = float(count), 0
    while amount >= KIB and unit < len(UNITS) - 1:
        amount, unit = amount / KIB, unit + 1
    return f"{amount:.1f} {UNITS[unit]}" if unit else f"{count} bytes"
