"""How late the event loop is, and how long decisions take: counts by size, and quantiles."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock

PERIOD_NS: Final = 20 * NS_PER_MS
# Upper edges from 1 µs to 100 s, ten to a decade: a quantile is off by 26 % at most.
EDGES: Final = tuple(round(1_000 * 10 ** (step / 10)) for step in range(81))


class Durations:
    """How often which duration came, in ns; memory does not grow with the run."""

    __slots__ = ("_counts", "greatest", "n")

    def __init__(self) -> None:
        self._counts = [0] * (len(EDGES) + 1)
        self.n = 0
        self.greatest = 0

    def add(self, ns: int) -> None:
        """Count one; less than nothing counts as nothing."""
        self._counts[bisect_left(EDGES, ns)] += 1
        self.n += 1
        self.greatest = max(self.greatest, ns)

    def quantile(self, share: float) -> int | None:
        """The upper edge of the class that holds the quantile; None when nothing was counted."""
        if self.n == 0:
            return None
        wanted = share * self.n
        seen = 0
        for edge, count in zip(EDGES, self._counts, strict=False):  # the last has no edge
            seen += count
            if seen >= wanted:
                return min(edge, self.greatest)
        return self.greatest

    def __repr__(self) -> str:
        return f"<Durations n={self.n} p50={self.quantile(0.5)} greatest={self.greatest}>"


async def probe_loop(clock: Clock, tell: Callable[[int], None]) -> None:
    """Tell, every 20 ms until cancelled, by how many ns the event loop was late."""
    while True:
        due = clock.now() + PERIOD_NS
        await asyncio.sleep(PERIOD_NS / NS_PER_S)
        tell(clock.now() - due)
