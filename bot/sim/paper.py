"""The paper venue: own orders against the real book, with queue, latency and fees' maker flag.

It reads the book that the engine learns from (receive coordinates: an order sent now acts
on the book as it will be seen after feed plus entry latency) and never writes it. What it
has to say enters a time queue and comes back as ordinary events. An audit never runs it.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bot.domain.decisions import Amend, Cancel, Place, Request
from bot.domain.events import (
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderOpened,
    OrderRejected,
    OwnEvent,
)
from bot.domain.units import Side
from bot.market.book import Book, array_index
from bot.sim.latency import Latency, LatencyParams
from bot.sim.queue import POWER3, RISK_AVERSE, SLOT, SLOTS

NEVER: Final = 1 << 62
MODELS: Final = {"risk_averse": RISK_AVERSE, "power3": POWER3}


class Paper:
    """Own orders at an imagined venue.

    `lot` is the lot size in base currency as float, `queue` one of `MODELS`. `slots`
    (and `memory`, the same as bytes) go with `n_slots` to `queue.observe_row`; after a FILLED
    flag call `collect`.
    """

    __slots__ = (
        "_book",
        "_ids",
        "_last_act",
        "_last_report",
        "_latency",
        "_lot",
        "_queue",
        "_sequence",
        "_trades",
        "memory",
        "model",
        "n_slots",
        "power",
        "slots",
    )

    def __init__(
        self, book: Book, lot: float, latency: LatencyParams, queue: str, power: float = 3.0
    ) -> None:
        self.model = MODELS[queue]
        self.power = power
        self.slots: NDArray[Any] = np.zeros(SLOTS, SLOT)
        self.memory = self.slots.view(np.uint8)
        self.n_slots = 0
        self._book = book
        self._lot = lot
        self._latency = Latency(latency)
        self._ids: list[Place | None] = [None] * SLOTS
        self._queue: list[tuple[int, int, Place | Cancel | OwnEvent]] = []
        self._sequence = 0
        self._last_act = 0
        self._last_report = 0
        self._trades = 0

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        """Send what was decided at `now`. There are no amends on paper."""
        for request in requests:
            assert not isinstance(request, Amend), "the paper venue declares no amends"
            self.submit(now, request)

    def tripped(self) -> None:
        """What is under way stays so: paper orders arrive, and their cancels behind them."""

    def submit(self, now: int, request: Place | Cancel) -> None:
        """Send an order or a cancel at `now`."""
        age = int(self._book.head[0]["age"])
        # One connection: a request never overtakes an earlier one.
        self._last_act = max(now + self._latency.acts_after(age), self._last_act)
        self._push(self._last_act, request)

    def due(self) -> int:
        """When the venue acts or a report arrives next; NEVER when nothing is under way."""
        return self._queue[0][0] if self._queue else NEVER

    def release(self, now: int) -> list[OwnEvent]:
        """Let everything due by `now` happen; returns the reports that have arrived."""
        events: list[OwnEvent] = []
        while self._queue and self._queue[0][0] <= now:
            at, _, what = heappop(self._queue)
            if isinstance(what, Place):
                self._rest(at, what)
            elif isinstance(what, Cancel):
                self._take_out(at, what)
            else:
                events.append(what)
        return events

    def collect(self, now: int) -> None:
        """Queue the reports of fills that `observe_row` made in the row received at `now`."""
        for j in range(self.n_slots):
            slot = self.slots[j]
            if slot["active"] == 0 or slot["filled"] <= 0.0:
                continue
            place = self._ids[j]
            assert place is not None
            # The tolerance is a rounding error of a sum of displayed quantities, not a lot.
            done = slot["remaining"] <= self._lot * 1e-6
            lots = (
                round(slot["filled"] / self._lot)
                if done
                else int(slot["filled"] / self._lot + 1e-6)
            )
            if done:
                self._free(j)
            if lots == 0:
                continue
            slot["filled"] -= lots * self._lot
            self._trades += 1
            self._report(
                now,
                Filled,
                place.order_id,
                f"p{self._trades}",
                place.side,
                place.tick,
                lots,
                True,
            )

    def _rest(self, at: int, place: Place) -> None:
        h = self._book.read()
        if not h.synced or h.bid == 0 or h.ask == 0:
            self._report(at, OrderRejected, place.order_id, "no market")
            return
        crosses = place.tick >= h.ask if place.side is Side.BUY else place.tick <= h.bid
        if crosses:
            self._report(at, OrderRejected, place.order_id, "post_only would match")
            return
        j = next((j for j in range(SLOTS) if self._ids[j] is None), None)
        if j is None:
            self._report(at, OrderRejected, place.order_id, "too many orders")
            return
        shown = self._book.quantity(place.side, place.tick)
        front = shown
        if h.overlay:
            if place.side is Side.BUY and place.tick >= h.bid:
                front = h.bid_qty if place.tick == h.bid else 0.0
            elif place.side is Side.SELL and place.tick <= h.ask:
                front = h.ask_qty if place.tick == h.ask else 0.0
        self._ids[j] = place
        self.slots[j] = (
            1, array_index(place.side), place.tick, front, 0.0, shown, place.lots * self._lot,
            0.0, 0.0, 0.0, h.depth_matched,
        )  # fmt: skip
        self.n_slots = max(self.n_slots, j + 1)
        self._report(at, OrderOpened, place.order_id)

    def _take_out(self, at: int, cancel: Cancel) -> None:
        for j in range(self.n_slots):
            place = self._ids[j]
            if place is not None and place.order_id == cancel.order_id:
                self._free(j)
                self._report(at, OrderCancelled, cancel.order_id)
                return
        self._report(at, CancelRejected, cancel.order_id)

    def _free(self, j: int) -> None:
        self._ids[j] = None
        self.slots[j]["active"] = 0
        while self.n_slots and self._ids[self.n_slots - 1] is None:
            self.n_slots -= 1

    def _report(self, now: int, kind: type[OwnEvent], *fields: Any) -> None:
        age = int(self._book.head[0]["age"])
        # One private stream: a report never overtakes an earlier one.
        at = max(now + self._latency.reported_after(age), self._last_report)
        self._last_report = at
        self._push(at, kind(at, *fields))

    def _push(self, at: int, what: Place | Cancel | OwnEvent) -> None:
        self._sequence += 1
        heappush(self._queue, (at, self._sequence, what))

    def __repr__(self) -> str:
        resting = [place.order_id for place in self._ids if place is not None]
        return f"<Paper resting={resting} under_way={len(self._queue)}>"
