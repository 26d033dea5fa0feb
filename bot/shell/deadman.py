"""What takes the orders out when the bot no longer can: the venue's countdown, or a watchdog.

    Countdown          the venue cancels everything of the symbol when nobody refreshes it
    WatchdogRequired   the venue has none: a process of its own cancels, and must be alive

Whatever it is, its obstacle stands until it protects the next order, and whenever it does not:
nothing rests without it.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from bot.domain.events import Cleared, Obstructed
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.heartbeat import LOST_NS, Pulse, State
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import Call

Put = Callable[[Obstructed | Cleared], None]

COUNTDOWN_MS_MIN: Final = 10_000  # the venue itself warns of small ones
FAILURES_MAX: Final = 3  # in a row
QUIET_NS: Final = 5 * NS_PER_S  # after it fired, before orders may rest again
LOOK_NS: Final = NS_PER_S // 4  # between two looks at the own health, or at the watchdog


class DeadMan(Protocol):
    """One way to be protected from ourselves; `run` keeps it up until it is cancelled."""

    async def arm(self) -> None:
        """Ask for protection, from now until `disarm`; the obstacle tells whether it is there."""
        ...

    async def refresh(self) -> None:
        """Renew it once. A failure is counted and not raised."""
        ...

    async def disarm(self) -> None:
        """Give it up. Only for a caller who has the venue's word that nothing rests."""
        ...

    def fired(self) -> None:
        """Orders ended that nobody asked to end: pause, and find out whether it still stands."""
        ...

    async def run(self) -> None:
        """Arm, and keep it so."""
        ...


class Obstacle:
    """Obstructed and Cleared in turns, whoever asks for either how often."""

    __slots__ = ("_clock", "_put", "stands", "what")

    def __init__(self, what: str, put: Put, clock: Clock) -> None:
        self.what = what
        self._put = put
        self._clock = clock
        self.stands = False

    def raise_(self, detail: str) -> None:
        """Nothing may rest."""
        if not self.stands:
            self.stands = True
            self._put(Obstructed(self._clock.now(), self.what, detail))

    def lift(self) -> None:
        """Orders may rest, as far as this is concerned."""
        if self.stands:
            self.stands = False
            self._put(Cleared(self._clock.now(), self.what))

    def __repr__(self) -> str:
        return f"<Obstacle {self.what} {'stands' if self.stands else 'lifted'}>"


class CountdownWords(Protocol):
    """What it needs of an order codec."""

    def countdown(self, ms: int) -> Call:
        """Cancel everything of the symbol in `ms`; 0 stops the countdown."""
        ...


class Countdown:
    """The venue's countdown of T ms, set anew every T/4 while `healthy`.

    An attempt gets T/8 for its answer, and one that failed is repeated T/8 after it began, from
    the third on after T/4, or when the venue allows it. The obstacle stands after three failures
    in a row, or once T/2 has passed since the last success, for whatever reason: the other half is
    for the cancels. `healthy` must not depend on this obstacle, or it would
    never be lifted. Time runs from before a request was sent, so the venue's own countdown ends
    later than ours.
    """

    __slots__ = (
        "_call",
        "_clock",
        "_codec",
        "_failures",
        "_fired_at",
        "_healthy",
        "_next_at",
        "_obstacle",
        "_one_at_a_time",
        "_period_ns",
        "_set_at",
        "_silent_until",
        "_time_ms",
        "_wake",
        "_wanted",
    )

    def __init__(
        self,
        call: Ask,
        codec: CountdownWords,
        put: Put,
        clock: Clock,
        healthy: Callable[[], bool],
        *,
        time_ms: int,
    ) -> None:
        assert time_ms >= COUNTDOWN_MS_MIN, f"a countdown of {time_ms} ms is too short"
        self._call = call
        self._codec = codec
        self._clock = clock
        self._healthy = healthy
        self._time_ms = time_ms
        self._period_ns = time_ms * NS_PER_MS // 4
        self._obstacle = Obstacle("dead_man", put, clock)
        self._one_at_a_time = asyncio.Lock()
        self._wake = asyncio.Event()
        self._wanted = False
        self._failures = 0  # in a row
        self._set_at: int | None = None  # when the countdown that runs was asked for
        self._next_at = 0
        self._silent_until = 0  # the venue asked for that
        self._fired_at = -QUIET_NS
        self._obstacle.raise_("the countdown is not armed")

    @property
    def armed(self) -> bool:
        """Whether orders may rest on its account."""
        return not self._obstacle.stands

    async def arm(self) -> None:
        """Set the countdown for the first time, or again after `disarm`."""
        self._wanted = True
        await self.refresh()
        self._wake.set()

    async def refresh(self) -> None:
        """Set it anew, healthy or not; `run` asks that before."""
        async with self._one_at_a_time:
            if not self._wanted:
                return  # disarmed while it waited for its turn
            asked_at = self._clock.now()
            if not await self._set(self._time_ms):
                self._failures += 1
                soon = self._period_ns if self._failures >= FAILURES_MAX else self._period_ns // 2
                self._next_at = max(asked_at + soon, self._silent_until)
            elif asked_at >= self._fired_at:  # else it may have been set before it fired
                self._failures = 0
                self._set_at = asked_at
                self._next_at = asked_at + self._period_ns
        self._judge()

    async def disarm(self) -> None:
        """Stop the countdown; should that fail, it fires over an empty book."""
        self._wanted = False
        self._obstacle.raise_("the countdown is disarmed")
        async with self._one_at_a_time:
            self._set_at = None
            await self._set(0)

    def fired(self) -> None:
        """Orders expired unrequested: it is set again, but they stay away for 5 s of quiet."""
        self._set_at = None
        self._fired_at = self._clock.now()
        self._next_at = max(self._fired_at, self._silent_until)
        self._obstacle.raise_("orders expired as if the countdown had fired")
        self._wake.set()

    async def run(self) -> None:
        """Arm as soon as it is healthy, refresh while it is, until cancelled or disarmed."""
        self._wanted = True
        while True:
            now = self._clock.now()
            if self._wanted and now >= self._next_at:
                if self._healthy():
                    await self.refresh()
                else:
                    self._next_at = now + LOOK_NS
            self._judge()
            await self._until(self._wakes_at())

    def _judge(self) -> None:
        """Raise or lift the obstacle by what is known now."""
        now = self._clock.now()
        if self._failures >= FAILURES_MAX:
            self._obstacle.raise_(f"the countdown was refused {self._failures} times in a row")
        elif self._set_at is not None and now >= self._set_at + 2 * self._period_ns:
            self._obstacle.raise_("the countdown was not refreshed in time")
        elif self._set_at is not None and now >= self._fired_at + QUIET_NS and self._wanted:
            self._obstacle.lift()

    def _wakes_at(self) -> int | None:
        """When there is something to do or to judge, ns; None while disarmed."""
        if not self._wanted:
            return None
        times = [self._next_at]
        if self._set_at is not None and not self._obstacle.stands:
            times.append(self._set_at + 2 * self._period_ns)
        if self._fired_at + QUIET_NS > self._clock.now():
            times.append(self._fired_at + QUIET_NS)
        return min(times)

    async def _until(self, at: int | None) -> None:
        delay_s = None if at is None else max(0, at - self._clock.now()) / NS_PER_S
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _set(self, ms: int) -> bool:
        try:
            async with asyncio.timeout(self._time_ms / 8_000):
                await self._call(self._codec.countdown(ms))
        except CallFailed as failure:
            silence_ns = round(failure.refusal.limited_s * NS_PER_S)
            self._silent_until = self._clock.now() + silence_ns
            return False
        except TimeoutError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<Countdown {self._time_ms} ms failures={self._failures} {self._obstacle!r}>"


class WatchdogRequired:
    """No countdown at the venue: ready only while the watchdog of this bot shows signs of life.

    `path` is the watchdog's heartbeat. Fresh is what moved within 3 s before our own eyes, so a
    file that was left behind proves nothing; and a watchdog that cannot reach the venue is none.
    """

    __slots__ = ("_clock", "_obstacle", "_pulse", "_quiet_until", "_venue_symbol", "_wanted")

    def __init__(self, path: Path, put: Put, clock: Clock, *, venue: str, symbol: str) -> None:
        self._pulse = Pulse(path)
        self._clock = clock
        self._venue_symbol = (venue, symbol)
        self._obstacle = Obstacle("watchdog", put, clock)
        self._wanted = False
        self._quiet_until = 0
        self._obstacle.raise_("no watchdog was seen yet: start `mmbot watchdog`")

    @property
    def armed(self) -> bool:
        """Whether orders may rest on its account."""
        return not self._obstacle.stands

    async def arm(self) -> None:
        """Look from now on; two looks at least are needed to see it move."""
        self._wanted = True
        await self.refresh()

    async def refresh(self) -> None:
        """Look once."""
        now = self._clock.now()
        self._pulse.look(now)
        fault = self.fault(now)
        if fault:
            self._obstacle.raise_(fault)
        elif self._wanted and now >= self._quiet_until:
            self._obstacle.lift()

    async def disarm(self) -> None:
        """Do without: nothing may rest any more."""
        self._wanted = False
        self._obstacle.raise_("the watchdog is not asked for any longer")

    def fired(self) -> None:
        """Orders ended unrequested: the watchdog took us for dead, or somebody else acted."""
        self._quiet_until = self._clock.now() + QUIET_NS
        self._obstacle.raise_("orders ended as if the watchdog had cancelled them")

    async def run(self) -> None:
        """Arm, and look every 250 ms until cancelled."""
        await self.arm()
        while True:
            await asyncio.sleep(LOOK_NS / NS_PER_S)
            await self.refresh()

    def fault(self, now: int) -> str:
        """Why it does not protect, by the looks until `now`; empty where it does."""
        beat = self._pulse.beat
        if beat is None:
            return "no watchdog was seen: start `mmbot watchdog`"
        if (beat.venue, beat.symbol) != self._venue_symbol:
            return f"the watchdog watches {beat.venue} {beat.symbol}"
        if not self._pulse.moving or self._pulse.quiet_ns(now) > LOST_NS:
            return "the watchdog shows no sign of life"
        if beat.state is not State.WATCHING:
            return "the watchdog cannot reach the venue"
        return ""

    def __repr__(self) -> str:
        return f"<WatchdogRequired {self._obstacle!r} {self._pulse!r}>"
