"""What may be read of the core: by reports, by tests. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.dispatch.core.acts import OrderModel
from gateway.dispatch.core.admission import Admission
from gateway.dispatch.core.catalogues.demand import Option
from gateway.dispatch.core.catalogues.hosts import Host, Hosts
from gateway.dispatch.core.catalogues.refusals import not_ready
from gateway.dispatch.core.dispatcher import Dispatcher
from gateway.dispatch.core.histograms import Histogram
from gateway.dispatch.core.jobs import JobRecord
from gateway.dispatch.core.liveness import Liveness
from gateway.dispatch.core.loading import Loading
from gateway.dispatch.core.refusals import not_served
from gateway.dispatch.core.results import Results
from gateway.dispatch.core.sessions import Registry, Session
from gateway.errors import ApiError
from shared.messages import Hello


class View:
    """The jobs and sessions themselves, not copies: they are read, never written."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        registry: Registry,
        hosts: Hosts,
        admission: Admission,
        liveness: Liveness,
        loading: Loading,
        results: Results,
    ) -> None:
        self.jobs: Mapping[str, JobRecord] = MappingProxyType(dispatcher.jobs)
        self.sessions: Mapping[bytes, Session] = MappingProxyType(registry.sessions)
        self.hosts: Mapping[bytes, Host] = MappingProxyType(hosts.by_id)
        self.token_gaps: Histogram = results.token_gaps
        self.queue_size = admission.queue_size
        self._registry = registry
        self._hosts = hosts
        self._liveness = liveness
        self._loading = loading
        self._admission = admission

    @property
    def dropped(self) -> Mapping[str, int]:
        """Messages that no worker or host can mean, by reason."""
        return {**self._liveness.dropped, **self._loading.dropped}

    @property
    def waiting(self) -> int:
        """Jobs that wait for a slot."""
        return self._admission.waiting

    @property
    def active(self) -> int:
        """Jobs that hold a slot."""
        return self._admission.active

    def free_slots(self, pool: str, *, stream: bool = False) -> int:
        """Slots of that model and kind that no job holds; negative after a loss."""
        return self._admission.free_slots(pool, stream=stream)

    def available(self) -> list[Hello]:
        """What can be asked for now: of workers that are ready, and of those on lease."""
        return self._registry.available_hellos()

    def on_lease(self) -> list[Hello]:
        """Of workers that are away and expected back."""
        here = {session.identity for session in self.sessions.values()}
        leases = self._registry.leases.items()
        return [lease.hello for identity, lease in leases if identity not in here]

    def loading(self) -> Session | None:
        return self._registry.loading(None)

    def not_served(self) -> ApiError:
        """Why no model can be asked for, when none can."""
        here = [host for host in self.hosts.values() if host.here]
        refused = not_ready([(host, entry) for host in here for entry in host.entries.values()])
        return refused or not_served(None, self._registry, self._hosts)

    def listing(self, pool: str) -> list[Option]:
        """Which hosts load that model when they are asked, and how it is there."""
        return self._hosts.listing(pool)

    def pool_of(self, name: str) -> str | None:
        """The model of that name, if a host lists it."""
        return self._hosts.pool_of(name)

    def is_asked_for(self, pool: str) -> bool:
        """Whether somebody waits for that model while nobody has it loaded."""
        return self._loading.is_asked_for(pool)

    def is_pending(self, order: OrderModel) -> bool:
        """Whether an operator's order is neither fulfilled nor given up."""
        return self._loading.is_pending(order)

    def load_failure(self, model: str) -> ApiError | None:
        """Why an order to load a model was given up; None: it was not."""
        return self._loading.failure(model)
