"""Latency of the paper venue, in the coordinates of receive time (MODEL 10).

The feed shows the exchange as it was one feed latency ago. An order therefore acts, seen
from here, one feed latency plus one entry latency after it was sent; the report of
something that we see happen arrives response minus feed latency later, never before.
"""

import msgspec

from bot.domain.units import NS_PER_MS


class LatencyParams(msgspec.Struct, frozen=True):
    """Multiples of the feed latency and their bounds."""

    entry_x: float = 4.0
    response_x: float = 3.0
    entry_ms_min: float = 5.0
    entry_ms_max: float = 3_000.0
    feed_ms_floor: float = 1.0  # the lower envelope hides the least latency: this stands for it
    feed_ms_max: float = 2_000.0  # an older feed has a fault, and its age is no latency any more


class Latency:
    """Delays in ns as functions of the feed's age above its lower envelope."""

    __slots__ = ("_entry_max", "_entry_min", "_entry_x", "_feed_max", "_floor", "_response_x")

    def __init__(self, params: LatencyParams) -> None:
        self._entry_x = params.entry_x
        self._response_x = params.response_x
        self._entry_min = round(params.entry_ms_min * NS_PER_MS)
        self._entry_max = round(params.entry_ms_max * NS_PER_MS)
        self._floor = round(params.feed_ms_floor * NS_PER_MS)
        self._feed_max = round(params.feed_ms_max * NS_PER_MS)

    def acts_after(self, age: int) -> int:
        """From sending an order until its effect can be seen in the feed."""
        feed = self._feed(age)
        entry = min(max(round(feed * self._entry_x), self._entry_min), self._entry_max)
        return feed + entry

    def reported_after(self, age: int) -> int:
        """From seeing an effect in the feed until the venue's report of it arrives."""
        feed = self._feed(age)
        return max(round(feed * self._response_x) - feed, 0)

    def _feed(self, age: int) -> int:
        return min(max(age, 0) + self._floor, self._feed_max)

    def __repr__(self) -> str:
        return f"<Latency acts {self.acts_after(0)} ns, reports {self.reported_after(0)} ns>"
