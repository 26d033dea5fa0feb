"""What a run amounts to: counts, times and halts, gathered beside the pump and read-only."""

from collections.abc import Sequence
from typing import Any, Protocol

from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Trip
from bot.domain.events import Event, FeedEvent, Filled, FillRecovered


class TwoSided(Protocol):
    """The order table, as far as uptime needs it."""

    def two_sided(self) -> bool:
        """At least one resting order on each side."""
        ...


class HasOrders(Protocol):
    """An engine, as far as a summary looks into it."""

    @property
    def orders(self) -> TwoSided:
        """Its order table."""
        ...


class Summary:
    """Counts of one run. Times are ns; `halts` has one entry a trip."""

    __slots__ = (
        "_last",
        "_lost_at",
        "_two_sided",
        "amended",
        "cancelled",
        "decisions",
        "fills",
        "first_trusted_ns",
        "halts",
        "placed",
        "two_sided_ns",
        "untrusted_ns",
    )

    def __init__(self) -> None:
        self.first_trusted_ns: int | None = None
        self.untrusted_ns = 0  # after the first trust
        self.two_sided_ns = 0
        self.placed = 0
        self.amended = 0
        self.cancelled = 0
        self.fills = 0
        self.decisions = 0
        self.halts: list[dict[str, Any]] = []
        self._lost_at: int | None = None
        self._two_sided = False
        self._last = 0

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so, at `now`."""
        if trusted:
            if self.first_trusted_ns is None:
                self.first_trusted_ns = now
                self._last = now
            if self._lost_at is not None:
                self.untrusted_ns += now - self._lost_at
                self._lost_at = None
        elif self.first_trusted_ns is not None and self._lost_at is None:
            self._lost_at = now

    def learned(self, event: Event | FeedEvent, engine: HasOrders) -> None:
        """An event other than a market frame was learned."""
        if isinstance(event, Filled | FillRecovered):
            self.fills += 1
        self._uptime(event.at, engine)

    def decided(self, now: int, decisions: Sequence[Decision], engine: HasOrders) -> None:
        """Decisions were made."""
        self.decisions += 1
        for decision in decisions:
            if isinstance(decision, Place):
                self.placed += 1
            elif isinstance(decision, Amend):
                self.amended += 1
            elif isinstance(decision, Cancel):
                self.cancelled += 1
            elif isinstance(decision, Trip):
                self.halts.append(
                    {
                        "at_ns": now,
                        "level": decision.level,
                        "cause": decision.cause,
                        "evidence": decision.evidence,
                        "rearmed_ns": None,
                    }
                )
            elif isinstance(decision, Rearm):
                for halt in self.halts:
                    if halt["rearmed_ns"] is None:
                        halt["rearmed_ns"] = now
        if decisions:
            self._uptime(now, engine)

    def finish(self, now: int, engine: HasOrders) -> None:
        """Close the open intervals at `now`."""
        self._uptime(now, engine)
        if self._lost_at is not None:
            self.untrusted_ns += now - self._lost_at
            self._lost_at = now

    def uptime(self, now: int) -> float:
        """Share of the time since the first trust with resting orders on both sides."""
        if self.first_trusted_ns is None or now <= self.first_trusted_ns:
            return 0.0
        return self.two_sided_ns / (now - self.first_trusted_ns)

    def _uptime(self, now: int, engine: HasOrders) -> None:
        if self._two_sided and now > self._last:
            self.two_sided_ns += now - self._last
        self._last = max(self._last, now)
        self._two_sided = engine.orders.two_sided()

    def __repr__(self) -> str:
        return (
            f"<Summary decisions={self.decisions} placed={self.placed} "
            f"amended={self.amended} cancelled={self.cancelled} fills={self.fills} "
            f"halts={len(self.halts)}>"
        )
