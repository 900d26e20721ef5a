"""The host's own sessions: its catalogue goes to every gateway, orders to load come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import zmq

from shared.messages import Catalogue, Identify, Load, Ping, Unload, Welcome
from worker.link.connection import GatewayConnection
from worker.settings import Settings

POLL_MS = 100
LINGER_MS = 500


class HostSession:
    """Used by the supervisor's only thread."""

    def __init__(self, settings: Settings) -> None:
        self._context = zmq.Context()
        self._gateways = [
            GatewayConnection.open(self._context, index, endpoint, settings)
            for index, endpoint in enumerate(settings.gateway)
        ]

    def wait(self, pipes: Iterable[int] = ()) -> None:
        """Until a gateway speaks or one of these descriptors can be read, a moment at most."""
        poller = zmq.Poller()
        for readable in (*(gateway.socket for gateway in self._gateways), *pipes):
            poller.register(readable, zmq.POLLIN)
        poller.poll(POLL_MS)

    def orders(self, now: float) -> Iterator[Load | Unload]:
        """What gateways have asked for since."""
        for gateway in self._gateways:
            for message, _ in gateway.messages(now):
                match message:
                    case Load() | Unload():
                        yield message
                    case Welcome():
                        gateway.welcomed(message)
                    case Ping() if not gateway.id or message.gateway == gateway.id:
                        pass
                    case Ping() | Identify():
                        gateway.forget()
                        gateway.greet_at_once()
            if gateway.has_fallen_silent(now):
                gateway.forget()
            if gateway.is_dead(now):
                gateway.rebuild(now)

    def tell(self, catalogue: Callable[[], Catalogue], now: float, *, changed: bool) -> None:
        """Say it to those for whom it is time, or to all when it has changed."""
        for gateway in self._gateways:
            gateway.stale = gateway.stale or changed
            if gateway.due("ready", now) is not None:
                gateway.send(catalogue())

    def leave(self, last_words: Catalogue) -> None:
        for gateway in self._gateways:
            gateway.send(last_words)
        self._context.destroy(linger=LINGER_MS)
