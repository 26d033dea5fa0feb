"""The watchdog: watches the bot's heartbeat, and empties the venue when it stops.

    look, every 250 ms   the bot's loop has not turned for 3 s, or its process is gone
                         -> cancel what is ours, read until it is gone, go on watching
    probe, every 5 s     the venue answers our own connection -> the bot may rely on us

The bot takes over again the moment its loop turns, or a new run beats: that one begins by
reconciling, and cancelling beside it would only confuse it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.heartbeat import LOST_NS, Heartbeat, Pulse, State, process_is_gone
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import Call, OrderReport, Verdict

LOOK_S: Final = 0.25
PROBE_S: Final = 5.0
BLIND_NS: Final = 12 * NS_PER_S  # without an answer
CALL_S: Final = 2.0  # for one answer
BACK_OFF_S: Final = (0.1, 0.2, 0.4, 0.8, 1.0)  # after the first failure in a row, the second, …
AT_ONCE_MAX: Final = 10  # cancels under way
EMPTY_NS: Final = NS_PER_S // 2  # between the two reads that prove an empty venue
SWEEP_S: Final = 0.25  # between cancels and the next read
STOP_NS_MAX: Final = 10 * NS_PER_S  # for a rescue that is under way


class OrderWords(Protocol):
    """What it needs of an order codec; each word is explained in `venues.orderentry`."""

    def open_orders(self) -> Call: ...
    def cancel(self, order_id: str) -> Call: ...
    def cancel_all(self) -> Call: ...
    def read_orders(self, body: Any) -> list[OrderReport]: ...


class Tally:
    """What a watch amounted to, counted since its beginning."""

    __slots__ = ("cancelled", "failures", "looks", "rescues", "rescues_done")

    def __init__(self) -> None:
        self.looks = 0
        self.rescues = 0
        self.rescues_done = 0  # confirmed by two empty reads
        self.cancelled = 0  # cancels that the venue accepted
        self.failures = 0  # calls without a usable answer


class Watchdog:
    """Watches one bot by its `pulse`, and cancels through `call` what `is_own`.

    `validity_ms` is how long the venue may still accept a request that the bot had sent: until
    then an empty venue proves nothing. `exclusive` says that nobody else trades this symbol on
    the account, so that one request may cancel all of it; otherwise orders are cancelled one by
    one, by our prefix. `own` is our heartbeat.
    """

    __slots__ = (
        "_answered_at",
        "_call",
        "_clock",
        "_codec",
        "_exclusive",
        "_failing",
        "_is_own",
        "_log",
        "_own",
        "_pulse",
        "_rescue",
        "_settled",
        "_silent_until",
        "_stop_by",
        "_validity_ns",
        "tally",
    )

    def __init__(
        self,
        call: Ask,
        codec: OrderWords,
        is_own: Callable[[str], bool],
        pulse: Pulse,
        own: Heartbeat,
        clock: Clock,
        *,
        validity_ms: int,
        exclusive: bool = False,
    ) -> None:
        self._call = call
        self._codec = codec
        self._is_own = is_own
        self._pulse = pulse
        self._own = own
        self._clock = clock
        self._validity_ns = validity_ms * NS_PER_MS
        self._exclusive = exclusive
        self._log = structlog.get_logger()
        self._rescue: asyncio.Task[None] | None = None
        self._settled: tuple[str, int] | None = None  # (epoch, turns) that was rescued
        self._answered_at: int | None = None
        self._silent_until = 0  # the venue asked for that
        self._failing = ""
        self._stop_by: int | None = None
        self.tally = Tally()

    def stop(self) -> None:
        """End within a look; a rescue under way gets 10 s more to be confirmed."""
        if self._stop_by is None:
            self._stop_by = self._clock.now() + STOP_NS_MAX

    async def run(self) -> bool:
        """Watch until stopped; False when a rescue was left unfinished.

        Raises what is an error of ours.
        """
        probing = asyncio.create_task(self._probe())
        try:
            while not self._is_over():
                self.look()
                if probing.done():
                    probing.result()
                await asyncio.sleep(LOOK_S)
        finally:
            unfinished = self._rescue is not None and not self._rescue.done()
            await _ended(probing, self._rescue)
            self._own.beat(self.tally.looks, State.BLIND)  # nobody relies on us any longer
        return not unfinished

    def _is_over(self) -> bool:
        if self._stop_by is None:
            return False
        return self._rescue is None or self._clock.now() >= self._stop_by

    def look(self) -> None:
        """Look at the bot once, and begin or end a rescue if that is due."""
        now = self._clock.now()
        self._pulse.look(now)
        lost = self._why_lost(now)
        if self._rescue is not None and self._rescue.done():
            self._rescue.result()
            self._rescue = None
        if lost and self._rescue is None and self._settled != self._beaten():
            self.tally.rescues += 1
            self._rescue = asyncio.create_task(self._empty_the_venue(lost))
        elif not lost and self._rescue is not None:
            self._rescue.cancel()
            self._rescue = None
            self._log.warning("bot_is_back", pulse=repr(self._pulse))
        self.tally.looks += 1
        self._own.beat(self.tally.looks, self._sight(now))

    def _why_lost(self, now: int) -> str:
        """Why the bot must be taken for dead; empty while it need not."""
        beat = self._pulse.beat
        if beat is None or beat.state is not State.QUOTING:
            return ""
        if process_is_gone(beat):
            return f"process {beat.pid} is gone"
        quiet_ns = self._pulse.quiet_ns(now)
        if quiet_ns >= LOST_NS:
            return f"its loop has not turned for {quiet_ns / NS_PER_S:.1f} s"
        return ""

    def _beaten(self) -> tuple[str, int]:
        beat = self._pulse.beat
        assert beat is not None
        return (beat.epoch, beat.turns)

    def _sight(self, now: int) -> State:
        """Whether the bot may rely on us."""
        if self._answered_at is None or now - self._answered_at > BLIND_NS:
            return State.BLIND
        return State.WATCHING

    # --- the rescue -----------------------------------------------------------------------

    async def _empty_the_venue(self, why: str) -> None:
        """Cancel what is ours until the venue said twice that nothing is left."""
        began, settled = self._clock.now(), self._beaten()
        self._log.error("bot_lost", why=why, epoch=settled[0], turns=settled[1])
        if self._exclusive:
            await self._ask(self._codec.cancel_all())
        empty_at: int | None = None
        failures = 0
        while True:
            asked_at = self._clock.now()
            orders = await self._own_orders()
            if orders is None:
                empty_at = None
                await self._back_off(failures)
                failures += 1
                continue
            failures = 0
            if orders:
                empty_at = None
                await self._cancel(orders)
                await asyncio.sleep(SWEEP_S)
            elif empty_at is None:
                empty_at = self._clock.now()
                await asyncio.sleep(EMPTY_NS / NS_PER_S)
            elif asked_at - empty_at >= EMPTY_NS and asked_at - began >= self._validity_ns:
                break
            else:
                await asyncio.sleep(SWEEP_S)
        self._settled = settled
        self.tally.rescues_done += 1
        took_ms = (self._clock.now() - began) // NS_PER_MS
        self._log.warning("venue_is_empty", epoch=settled[0], took_ms=took_ms)

    async def _own_orders(self) -> list[str] | None:
        """Client ids of ours that rest; None when the venue did not say."""
        body = await self._ask(self._codec.open_orders())
        if body is None:
            return None
        try:
            reports = self._codec.read_orders(body)
        except ValueError as error:
            self._failed(f"unreadable: {error}")
            return None
        return [report.order_id for report in reports if self._is_own(report.order_id)]

    async def _cancel(self, order_ids: Sequence[str]) -> None:
        """Ask for each to be cancelled; what became of it, the next read tells."""
        for first in range(0, len(order_ids), AT_ONCE_MAX):
            some = order_ids[first : first + AT_ONCE_MAX]
            answers = await asyncio.gather(*(self._ask(self._codec.cancel(one)) for one in some))
            done = [one for one, body in zip(some, answers, strict=True) if body is not None]
            self.tally.cancelled += len(done)
            self._log.warning("cancelled", orders=done, of=list(some))

    async def _back_off(self, failures: int) -> None:
        """Wait up to 1 s."""
        await asyncio.sleep(BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])

    # --- calls ----------------------------------------------------------------------------

    async def _ask(self, call: Call) -> Any:
        """The body of an answer; None where there is none.

        While the venue demands silence (429, 418) nothing is asked: it would be refused, and
        make the silence longer.
        """
        silence_ns = self._silent_until - self._clock.now()
        if silence_ns > 0:
            await asyncio.sleep(silence_ns / NS_PER_S)
        try:
            async with asyncio.timeout(CALL_S):
                body = await self._call(call)
        except CallFailed as failure:
            refusal = failure.refusal
            if refusal.limited_s > 0:
                self._silent_until = self._clock.now() + round(refusal.limited_s * NS_PER_S)
            if refusal.verdict is not Verdict.ABSENT:  # else it ended by itself
                self._failed(refusal.reason)
            return None
        except TimeoutError:
            self._failed("timeout")
            return None
        self._answered_at = self._clock.now()
        if self._failing:
            self._log.info("venue_answers")
            self._failing = ""
        return body

    def _failed(self, reason: str) -> None:
        """Count, and log what is new: a venue that is away must not fill a disk."""
        self.tally.failures += 1
        if reason != self._failing:
            self._failing = reason
            self._log.error("call_failed", reason=reason)

    async def _probe(self) -> None:
        """Find out, again and again, whether we could act; it also keeps the connection open."""
        failures = 0
        while True:
            if self._rescue is None:  # which asks often enough
                answered = await self._own_orders() is not None
                failures = 0 if answered else failures + 1
            if failures:
                await self._back_off(failures - 1)
            else:
                await asyncio.sleep(PROBE_S)

    def __repr__(self) -> str:
        state = "rescuing" if self._rescue is not None else "watching"
        return f"<Watchdog {state} {self._pulse!r}>"


async def _ended(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait for them."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
