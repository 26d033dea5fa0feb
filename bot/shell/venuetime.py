"""How far our clock is from the venue's, and the offset that requests are signed with.

A request whose time is off by more than its validity is refused (VENUES 7). The offset comes
from the fastest of a few questions: half of its round trip bounds the error. Refusals for the
time lead to one comparison; if that does not help, everything waits for the clock.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from bot.domain.events import Cleared, Obstructed
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.deadman import Obstacle
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import Call

PERIOD_NS: Final = 30 * NS_PER_S
AGAIN_NS: Final = 5 * NS_PER_S  # while the clock is not known to be right
TICK_S: Final = 0.25
SAMPLES: Final = 5
WRONG_NS: Final = 400 * NS_PER_MS  # an offset so far off: nothing may rest
RIGHT_NS: Final = 100 * NS_PER_MS  # one less far off is confirmed
RIGHT_READS: Final = 2
UNKNOWN_NS_MAX: Final = 60 * NS_PER_S  # without any comparison
REFUSED_NS: Final = 60 * NS_PER_S  # two refusals within it: comparing did not help

Put = Callable[[Obstructed | Cleared], None]


class TimeWords(Protocol):
    """What it needs of an order codec."""

    def server_time(self) -> Call: ...
    def read_server_time(self, body: Any) -> int: ...


class VenueTime:
    """Compares the clocks; the obstacle `clock` stands while they cannot be relied on.

    `set_offset` takes the ms that our clock is ahead of the venue's. `sleep` takes seconds.
    """

    __slots__ = ("_ask", "_clock", "_codec", "_compared_at", "_due", "_log", "_obstacle",
                 "_refused_at", "_right", "_set_offset", "_sleep", "ahead_ns",
                 "round_trip_ns")  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        codec: TimeWords,
        put: Put,
        clock: Clock,
        set_offset: Callable[[int], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.ahead_ns: int | None = None  # our clock less the venue's; None before a comparison
        self.round_trip_ns = 0  # of the sample that says so
        self._ask = ask
        self._codec = codec
        self._clock = clock
        self._set_offset = set_offset
        self._sleep = sleep
        self._log = structlog.get_logger()
        self._obstacle = Obstacle("clock", put, clock)
        self._right = 0  # comparisons in a row that confirmed the offset
        self._due = 0
        self._compared_at = clock.now()
        self._refused_at = -REFUSED_NS

    async def run(self) -> None:
        """Compare until cancelled: every 30 s, sooner while in doubt."""
        while True:
            if self._clock.now() >= self._due:
                await self.compare()
            await self._sleep(TICK_S)

    def nudge(self) -> None:
        """The venue refused a request for its time: compare at once, but only once.

        A further refusal, after that comparison, means that it does not help: everything waits
        until the clocks agree twice.
        """
        now = self._clock.now()
        if self._due == 0:
            return  # about to be compared
        if now - self._refused_at < REFUSED_NS:
            self._doubt("the venue refuses our time although the clocks were compared")
            self._due = min(self._due, now + AGAIN_NS)
        else:
            self._due = 0
        self._refused_at = now

    async def compare(self) -> bool:
        """Ask the venue for its time, and sign with it; False when it did not say."""
        best = await self._fastest()
        now = self._clock.now()
        if best is None:
            self._due = now + AGAIN_NS
            if now - self._compared_at >= UNKNOWN_NS_MAX:
                self._doubt("the venue's time is not known")
            return False
        self.round_trip_ns, ahead = best
        before, self.ahead_ns = self.ahead_ns, ahead
        self._compared_at = now
        self._set_offset(round(ahead / NS_PER_MS))
        self._judge(None if before is None else abs(ahead - before))
        self._due = now + (AGAIN_NS if self._obstacle.stands or not self._right else PERIOD_NS)
        return True

    def _judge(self, error: int | None) -> None:
        """Draw the consequences of how far the offset in force was off; None: there was none."""
        if error is None or error < RIGHT_NS:
            self._right += 1
            if self._right >= RIGHT_READS:
                self._obstacle.lift()
            return
        self._right = 0
        self._log.warning("clock_step", error_ms=round(error / NS_PER_MS))
        if error > WRONG_NS:
            self._doubt(f"requests were signed {error / NS_PER_MS:.0f} ms off the venue's time")

    def _doubt(self, why: str) -> None:
        self._right = 0
        self._log.error("clock_doubted", why=why)
        self._obstacle.raise_(why)

    async def _fastest(self) -> tuple[int, int] | None:
        """(round trip, our clock less the venue's) of the fastest sample; None without any."""
        samples = []
        for _ in range(SAMPLES):
            sent_at = self._clock.now()
            try:
                body = await self._ask(self._codec.server_time())
                heard_at = self._clock.now()
                theirs = self._codec.read_server_time(body)
            except (CallFailed, ValueError) as failure:
                self._log.debug("time_unread", why=str(failure))
                continue
            samples.append((heard_at - sent_at, (sent_at + heard_at) // 2 - theirs))
        best = min(samples, default=None)
        if best is not None and best[0] > 2 * WRONG_NS:
            return None  # an error of half of that could not be told from a step
        return best

    def __repr__(self) -> str:
        state = "doubted" if self._obstacle.stands else "right"
        return f"<VenueTime {state} ahead_ns={self.ahead_ns}>"
