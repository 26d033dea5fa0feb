"""Real orders wired together: the account's line, gateway, private stream, reconciliation.

Everything stands in the way from the start and clears by itself, in this order: the private
stream opens, what earlier runs left is cleaned up and the position taken over, the dead-man's
switch is armed. Until all of it holds the engine knows obstacles and quotes nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import structlog
from msgspec.structs import replace

from bot.core.budget import Budget
from bot.core.engine import Engine
from bot.core.triggers import Severity
from bot.domain.events import Cleared, Obstructed
from bot.domain.instrument import Instrument
from bot.domain.units import DAY_NS, MINUTE_NS, NS_PER_MS, NS_PER_S
from bot.journal.run import Run
from bot.modes.account import Account
from bot.modes.preflight import EXIT_REFUSED
from bot.modes.previous import remember_account
from bot.modes.settings import Loaded
from bot.shell.beliefs import Beliefs
from bot.shell.clock import Clock
from bot.shell.deadman import Countdown, DeadMan, WatchdogRequired
from bot.shell.filters import FiltersWatch
from bot.shell.gateway import Gateway
from bot.shell.heartbeat import Heartbeat, State
from bot.shell.inbox import Inbox
from bot.shell.livevenue import LiveVenue
from bot.shell.outbox import Outbox, Tasks
from bot.shell.privatestream import OBSTACLE as PRIVATE_STREAM
from bot.shell.privatestream import PrivateStream
from bot.shell.reconcile import OBSTACLE as RECONCILE
from bot.shell.reconcile import Periods, Reconciler
from bot.shell.statements import ReadFailed, Statements
from bot.shell.takeover import EMPTY_NS, AnotherInstance, Previous
from bot.shell.venuetime import VenueTime
from bot.shell.wire import Wire
from bot.venues.binance.ids import is_of_run, is_own
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Priority

SWEEP_NS_MAX: Final = 10 * NS_PER_S
# Per venue, as its documents state them: request weight, orders, each as (limit, window); then
# our own cap on orders a minute, which a bot that is not running away never meets.
LIMITS: Final = {
    "binance-spot": (((6_000, MINUTE_NS),), ((100, 10 * NS_PER_S), (200_000, DAY_NS)), 500),
    "binance-usdm": (((2_400, MINUTE_NS),), ((300, 10 * NS_PER_S), (1_200, MINUTE_NS)), 1_100),
}
PROTECTION: Final = ("dead_man", "watchdog")  # obstacles that must not keep themselves up


class Execution:
    """Order entry of one run, with all that keeps its account true.

    `gateway` exists from the beginning, so that the engine's pump has its venue. `jobs` run
    beside the run, `finish` proves the venue empty, `close` shuts every socket. `late` says
    whether the event loop is; `broke` and `guard` are the supervisor's; `stop` ends the run in
    order; `rebuild` is told when the instrument is not what it was.
    """

    def __init__(
        self,
        loaded: Loaded,
        account: Account,
        previous: Previous | None,
        folder: Run,
        engine: Engine,
        prefix: str,
        inbox: Inbox,
        clock: Clock,
        *,
        late: Callable[[], bool],
        broke: Callable[[Exception], None],
        guard: Callable[[Callable[[], None]], None],
        stop: Callable[[str, int], None],
        rebuild: Callable[[Instrument], None],
    ) -> None:
        settings = loaded.settings
        self._engine = engine
        self._inbox = inbox
        self._clock = clock
        self._late = late
        self._stop = stop
        self._log = structlog.get_logger()
        self._previous = previous
        self._folder = folder
        self._account = account.name
        self._taken_over = False
        self._ending = False
        self._proven = False  # nothing rests at the venue
        self._spot = settings.venue == "binance-spot"
        window_ms = settings.execution.recv_window_ms
        self._codec = order_codec(loaded.instrument, prefix, window_ms)
        self._budget = budget_of(settings.venue)
        self._tasks = Tasks(broke)
        self._outbox = Outbox(self._budget, clock, self._tasks)
        self.wire = Wire(
            account.access,
            self._codec,
            clock,
            timeout_ms=settings.execution.request_timeout_ms,
            used=lambda weight: self._budget.told(weight, clock.now()),
        )
        self.gateway = self._order_entry(previous, settings.account.exclusive)
        self.venue = LiveVenue(self.gateway)
        self._statements = Statements(self.gateway.ask, self._codec, is_own)
        self.reconciler = self._reconciliation(loaded, prefix)
        self.stream = PrivateStream(
            self.wire, self.gateway.heard, self._opened, inbox, clock, self._tasks, guard
        )
        self.time = VenueTime(
            self.gateway.ask, self._codec, self._obstacle, clock, self.wire.set_offset
        )
        self.filters = self._filters(loaded, rebuild)
        self.dead_man = self._protection(loaded, account)
        self.heartbeat = Heartbeat(
            account.heartbeat,
            clock,
            epoch=prefix,
            venue=settings.venue,
            symbol=settings.symbol,
            state=State.QUOTING,
        )
        # Should this run die before it has taken the account over, the next one knows whose it was.
        remember_account(folder, account.name, None if previous is None else previous.neutral)
        inbox.put_event(Obstructed(clock.now(), PRIVATE_STREAM, "not open yet"))
        inbox.put_event(Obstructed(clock.now(), RECONCILE, "the account was not read yet"))

    # --- its parts, in the order in which they are made -------------------------------------

    def _order_entry(self, previous: Previous | None, exclusive: bool) -> Gateway:
        return Gateway(
            self.wire,
            self._codec,
            self._engine.orders,
            self._inbox,
            self._clock,
            self._outbox,
            self._tasks,
            unheard=self._unheard,
            unasked=self._unasked,
            clock_wrong=lambda: self.time.nudge(),  # which is made later
            silence=self._budget.silence,
            exclusive=exclusive,
            told_before=() if previous is None else previous.keys,
        )

    def _reconciliation(self, loaded: Loaded, prefix: str) -> Reconciler:
        settings = loaded.settings
        return Reconciler(
            self._statements,
            self.gateway,
            Beliefs(self._engine),
            loaded.instrument,
            self._clock,
            self._inbox.put_event,
            self._log,
            spot=self._spot,
            neutral=settings.account.neutral_qty,
            is_own=is_own,
            is_of_run=lambda order_id: is_of_run(order_id, prefix),
            periods=Periods(
                answers=settings.execution.in_flight_ms * NS_PER_MS,
                orders=settings.execution.open_orders_ms * NS_PER_MS,
                position=settings.execution.position_ms * NS_PER_MS,
            ),
        )

    def _filters(self, loaded: Loaded, changed: Callable[[Instrument], None]) -> FiltersWatch:
        return FiltersWatch(
            self.gateway.ask,
            self._codec,
            self._obstacle,
            self._clock,
            loaded.instrument,
            loaded.fees,
            changed=changed,
            period_s=float(loaded.settings.execution.filters_s),
        )

    def _protection(self, loaded: Loaded, account: Account) -> DeadMan:
        settings = loaded.settings
        if self._codec.capabilities.dead_man:
            return Countdown(
                self._vital,
                self._codec,
                self._obstacle,
                self._clock,
                self.healthy,
                time_ms=settings.execution.dead_man_s * 1_000,
            )
        return WatchdogRequired(
            account.watchdog,
            self._obstacle,
            self._clock,
            venue=settings.venue,
            symbol=settings.symbol,
        )

    # --- while it runs ----------------------------------------------------------------------

    def jobs(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the run until it has ended."""
        yield self.stream.run()
        yield self.gateway.run()
        yield self.time.run()
        yield self.filters.run()
        yield self.dead_man.run()

    def turned(self, turns: int) -> None:
        """The loop went round: the watchdog may know, until it may look away."""
        if not self._proven:
            self.heartbeat.beat(turns, State.QUOTING)

    def healthy(self) -> bool:
        """Whether the bot is fit to have orders rest: what the dead-man's switch asks."""
        blocked = [what for what in self._engine.obstacles if what not in PROTECTION]
        killed = self._engine.breakers.permission.severity >= Severity.HALTED
        return self._taken_over and not (blocked or killed or self._late())

    async def _opened(self) -> None:
        """The private stream speaks: now nothing can be missed that happens from here on."""
        if self._taken_over:
            await self.reconciler.reconnected()
            return
        try:
            await self.reconciler.start(self._previous)
        except (AnotherInstance, ReadFailed) as refusal:
            self._log.error("account_refused", why=str(refusal))
            self._stop(str(refusal), EXIT_REFUSED)
            return
        self._taken_over = True
        neutral = self.reconciler.neutral if self._spot else None
        remember_account(self._folder, self._account, neutral)
        self._tasks.start(self._reconcile(), "reconcile")

    async def _reconcile(self) -> None:
        try:
            await self.reconciler.run()
        except AnotherInstance as refusal:
            self._log.error("account_refused", why=str(refusal))
            self._stop(str(refusal), EXIT_REFUSED)

    def _unheard(self, order_id: str) -> None:
        """The venue took an order and the private stream is silent about it."""
        self._log.error("private_stream_mute", order=order_id)
        self.stream.restart(f"mute about {order_id}")

    def _unasked(self, order_id: str) -> None:
        self._log.error("order_ended_unasked", order=order_id)
        self.dead_man.fired()

    async def _vital(self, call: Call) -> Any:
        """A call with the right of way of cancels; `Gateway.ask` would throttle it."""
        urgent = replace(call, priority=Priority.CANCEL)
        await self._outbox.admitted(urgent)
        return await self.wire.call(urgent)

    def _obstacle(self, event: Obstructed | Cleared) -> None:
        """Tell the engine; at the end, when nothing is quoted any more, it is no news."""
        if not self._ending:
            self._inbox.put_event(event)

    # --- the end ----------------------------------------------------------------------------

    async def finish(self, patient: Callable[[], bool]) -> bool:
        """Prove that none of our orders rests; False where that failed within 10 s.

        Nothing but cancels and questions leaves from here on. Two empty lists half a second
        apart, behind the validity of whatever was sent last, are a proof; whatever they show
        instead is cancelled. Only then the dead-man's switch is let go. It gives up as soon as
        nobody is `patient`.
        """
        self._ending = True
        self.gateway.shut()
        deadline = self._clock.now() + SWEEP_NS_MAX
        # Behind this nothing that was sent can still come to life.
        quiet_from = self.gateway.sent_at + self._codec.capabilities.recv_window_ms * NS_PER_MS
        empty_at: int | None = None
        while self._clock.now() < deadline and patient():
            asked_at = self._clock.now()
            try:
                listed = await self._statements.open_orders()
            except ReadFailed as failure:
                self._log.warning("sweep_failed", why=str(failure))
                empty_at = None
            else:
                own = [one.order_id for one in listed if is_own(one.order_id)]
                for order_id in own:
                    self.gateway.cancel_stray(order_id)
                if own:
                    empty_at = None
                elif empty_at is None:
                    empty_at = asked_at
                elif asked_at - empty_at >= EMPTY_NS and asked_at >= quiet_from:
                    await self.dead_man.disarm()
                    self._proven = True
                    self.heartbeat.stop()
                    return True
            await asyncio.sleep(EMPTY_NS / NS_PER_S / 2)
        return False

    async def close(self) -> None:
        """End what runs and shut every socket."""
        self._outbox.close()
        await self._tasks.close()
        await self.wire.close()
        self.heartbeat.close()

    def __repr__(self) -> str:
        return f"<Execution {self.gateway!r} {self.stream!r} {self.reconciler!r}>"


def budget_of(venue: str) -> Budget:
    """The limits of messages on a venue, and our own cap on orders a minute."""
    return Budget(*LIMITS[venue])
