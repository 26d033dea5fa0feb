"""A real venue as the pump sees it: requests go to the gateway, answers come by the inbox."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import Request
from bot.domain.events import OwnEvent
from bot.sim.paper import NEVER
from bot.sim.queue import RISK_AVERSE, SLOT


class OrderEntry(Protocol):
    """As much of a `Gateway` as a venue needs."""

    def perform(self, now: int, requests: Sequence[Request]) -> None: ...
    def tripped(self) -> None: ...


class LiveVenue:
    """No order of ours is simulated: there are no slots, and nothing is ever due."""

    __slots__ = ("_gateway", "memory", "model", "n_slots", "power")

    def __init__(self, gateway: OrderEntry) -> None:
        self._gateway = gateway
        self.memory: NDArray[Any] = np.zeros(1, SLOT).view(np.uint8)
        self.n_slots = 0
        self.model = RISK_AVERSE
        self.power = 1.0

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        """Hand them to the gateway."""
        self._gateway.perform(now, requests)

    def tripped(self) -> None:
        """Nothing decided before may leave any more."""
        self._gateway.tripped()

    def due(self) -> int:
        """Never."""
        return NEVER

    def collect(self, now: int) -> None:
        """There is nothing to collect."""

    def release(self, now: int) -> Sequence[OwnEvent]:
        """Nothing: reports come by the inbox."""
        return ()

    def __repr__(self) -> str:
        return f"<LiveVenue {self._gateway!r}>"
