"""The way back after a trip: how long a cause must be quiet, and how size returns in steps.

A quiet patch is not a recovery (RISK 4). On 2025-10-10 the gap between the last buy
and the last sell fell from 8.8 bp to 2.7 bp and blew out to 199 bp twenty minutes later.
"""

from typing import Final, NamedTuple

from bot.domain.units import DAY_NS, NS_PER_S

CLEAN_NS: Final = 4 * 3_600 * NS_PER_S  # without a trip: the doubling of pauses ends


class Step(NamedTuple):
    """Size as a fraction of the normal size, spread as a multiple of the model's."""

    size: float
    spread: float


FULL: Final = Step(1.0, 1.0)
# RISK 4: 25 % more every 30 s.
PLAIN: Final = (Step(0.25, 1.0), Step(0.50, 1.0), Step(0.75, 1.0), FULL)
PLAIN_STEP_NS: Final = 30 * NS_PER_S
# MODEL 8.4, after liquidity or spread trips.
STAGED: Final = (Step(0.10, 3.0), Step(0.25, 2.0), Step(0.50, 1.5), FULL)


class Ramp:
    """Steps back to full size. At full size until started."""

    __slots__ = ("_since", "_step_ns", "_steps")

    def __init__(self) -> None:
        self._steps: tuple[Step, ...] = PLAIN
        self._step_ns = 0
        self._since = 0

    def start(self, now: int, steps: tuple[Step, ...], step_ns: int) -> None:
        """Begin at the first of `steps`, each of which lasts `step_ns`; the last one stays."""
        self._steps = steps
        self._step_ns = step_ns
        self._since = now

    def step(self, now: int) -> Step:
        """The step in force."""
        if self._step_ns == 0:
            return FULL
        index = (now - self._since) // self._step_ns
        if index >= len(self._steps) - 1:
            self._step_ns = 0
            return FULL
        return self._steps[index]

    def __repr__(self) -> str:
        if self._step_ns == 0:
            return "Ramp(full)"
        return f"Ramp(since={self._since}, step_ns={self._step_ns}, first={self._steps[0].size})"


class Cooldown:
    """When a tripped cause may let go: quiet for `hold_ns` at a stretch, and not before the pause.

    The pause counts from the trip. Each further trip doubles it, up to `pause_ns_max`, until
    four hours without one.
    """

    __slots__ = ("_good_since", "_hold_ns", "_pause_ns", "_pause_ns_max", "_repeats", "_tripped_at")

    def __init__(self, hold_ns: int, pause_ns: int = 0, pause_ns_max: int = 0) -> None:
        self._hold_ns = hold_ns
        self._pause_ns = pause_ns
        self._pause_ns_max = max(pause_ns, pause_ns_max)
        self._repeats = -1
        self._tripped_at = 0
        self._good_since = -1

    def trip(self, now: int) -> None:
        """The cause tripped."""
        if now - self._tripped_at >= CLEAN_NS:
            self._repeats = -1
        self._repeats += 1
        self._tripped_at = now
        self._good_since = -1

    def over(self, now: int, good: bool) -> bool:
        """Whether the cause may let go at `now`; `good` says that it is quiet now."""
        if not good:
            self._good_since = -1
            return False
        if self._good_since < 0:
            self._good_since = now
        return now - self._good_since >= self._hold_ns and now - self._tripped_at >= self.pause_ns

    @property
    def pause_ns(self) -> int:
        """Least time from the last trip to its end."""
        # 2^20 of any pause is beyond every cap; a longer shift would only cost memory.
        return min(self._pause_ns << min(max(self._repeats, 0), 20), self._pause_ns_max)

    def __repr__(self) -> str:
        return (
            f"Cooldown(tripped_at={self._tripped_at}, good_since={self._good_since}, "
            f"repeats={self._repeats})"
        )


class DailyCount:
    """Events within one UTC day."""

    __slots__ = ("_count", "_day")

    def __init__(self) -> None:
        self._day = -1
        self._count = 0

    def today(self, now: int) -> int:
        """How many were added on the UTC day of `now`."""
        return self._count if now // DAY_NS == self._day else 0

    def add(self, now: int) -> int:
        """Count one more and say which of the day it is, from 1."""
        self._count = self.today(now) + 1
        self._day = now // DAY_NS
        return self._count

    def clear(self) -> None:
        """Start the day anew."""
        self._count = 0

    def __repr__(self) -> str:
        return f"DailyCount(day={self._day}, count={self._count})"
