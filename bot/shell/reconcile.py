"""The bot's orders and position are what the venue has: at start, after a gap, and all along.

    start         sweep what earlier runs left, recover their fills, take the venue's position
    reconnected   the private stream was away: nothing rests until everything is equal again
    run           open orders every 5 s, position every 15 s, requests without an answer every 2 s

The venue is asked, one question at a time; `core.reconcile` says what its answers prove. The
obstacle `reconcile` stands whenever they prove too little: a failed question is no empty venue.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

import msgspec

from bot.core.fillkeys import FillKey
from bot.core.orderlife import Order
from bot.core.reconcile import (
    AT_REST,
    OrdersWatch,
    PositionRead,
    PositionWatch,
    Standing,
    compare,
    foreign,
    overdue,
    position_off,
)
from bot.domain.events import (
    Cleared,
    Event,
    Obstructed,
    PositionAdopted,
)
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S
from bot.shell.clock import Clock
from bot.shell.statements import ReadFailed, Statements, fill_key, told
from bot.shell.takeover import HISTORY_NS, OVERLAP_NS, Previous, Takeover, another_instance
from bot.venues.orderentry import Execution, Holdings

OBSTACLE: Final = "reconcile"
TICK_S: Final = 0.25
ORDERS_SPACING_NS: Final = 2 * NS_PER_S  # however often it is nudged: lists lag so far behind
HOLDINGS_AGAIN_NS: Final = 3 * NS_PER_S  # after a reading that proved nothing
FAILURES_MAX: Final = 3  # readings in a row that failed or contradict what we know
DOUBTS_MAX: Final = 10  # single-order questions a cycle
EQUAL_READS: Final = 2
STRANGERS_MAX: Final = 3  # strays of other runs while we run: somebody places them
RETRY_S: Final = 1.0


class Periods(msgspec.Struct, frozen=True):
    """Times between two looks, ns."""

    answers: int = 2 * NS_PER_S
    orders: int = 5 * NS_PER_S
    position: int = 15 * NS_PER_S


DEFAULT_PERIODS: Final = Periods()


class Gateway(Protocol):
    """What order entry knows and does for us. Times are ns, 0 is never."""

    @property
    def active_at(self) -> int:
        """When anything of ours was last sent or heard."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        ...

    def touched_at(self, order_id: str) -> int:
        """When anything about this order was last sent or heard."""
        ...

    def doubt(self, order_id: str) -> None:
        """Hold the order UNKNOWN, and ask the venue about it."""
        ...

    def cancel_stray(self, order_id: str) -> None:
        """Cancel an order of ours that no engine knows."""
        ...


class Beliefs(Protocol):
    """What the engine holds to be true now."""

    @property
    def position_lots(self) -> int: ...
    @property
    def base_fees(self) -> Decimal:
        """Fees paid in base currency, which have left the balance without being a trade."""
        ...

    @property
    def filled_at(self) -> int: ...
    @property
    def tick2(self) -> int:
        """Twice the mid in ticks, as last trusted; 0 before."""
        ...

    def working(self) -> Sequence[Order]: ...
    def owed(self) -> Sequence[str]:
        """Orders that have traded more than their fills have told."""
        ...

    def knows_order(self, order_id: str) -> bool: ...
    def knows_fill(self, key: FillKey) -> bool: ...


class Reconciler:
    """Keeps one symbol's orders and position equal to the venue's.

    `neutral` is the balance of a spot account that counts as no position, None to find it at
    start; derivatives have none. `is_own` knows client ids of our prefix, `is_of_run` those of
    this run. `put` hands an event to the engine. `sleep` takes seconds.
    """

    __slots__ = ("_beliefs", "_clock", "_covered", "_due", "_failures", "_foreign", "_gateway",
                 "_good_at", "_instrument", "_is_of_run", "_is_own", "_listed_at", "_log",
                 "_orders", "_periods", "_position", "_put", "_reasons", "_sleep", "_spot",
                 "_statements", "_strangers", "_work", "neutral")  # fmt: skip

    def __init__(
        self,
        statements: Statements,
        gateway: Gateway,
        beliefs: Beliefs,
        instrument: Instrument,
        clock: Clock,
        put: Callable[[Event], None],
        log: Any,
        *,
        spot: bool,
        neutral: Decimal | None = None,
        is_own: Callable[[str], bool],
        is_of_run: Callable[[str], bool],
        periods: Periods = DEFAULT_PERIODS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.neutral = neutral if spot else Decimal(0)
        self._statements = statements
        self._gateway = gateway
        self._beliefs = beliefs
        self._instrument = instrument
        self._clock = clock
        self._put = put
        self._log = log
        self._spot = spot
        self._is_own = is_own
        self._is_of_run = is_of_run
        self._periods = periods
        self._sleep = sleep
        self._work = asyncio.Lock()  # one procedure at a time
        self._orders = OrdersWatch(is_own)
        self._position = PositionWatch()
        self._reasons: dict[str, str] = {}  # why the obstacle stands
        self._failures = {"orders": 0, "position": 0}
        self._due = {"orders": 0, "position": 0, "answers": 0}
        self._listed_at = 0  # when the open orders were last asked for
        self._good_at = clock.now()  # when the position was last known to be equal
        self._covered: set[FillKey] = set()  # executions of before this run
        self._foreign: set[str] = set()  # orders of others that were reported
        self._strangers: set[str] = set()  # strays of other runs

    # --- start ----------------------------------------------------------------------------

    async def start(self, previous: Previous | None) -> None:
        """Make the venue and the engine agree, before anything is quoted.

        Returns once the obstacle is cleared. Raises AnotherInstance, and ReadFailed when the
        venue refuses the key or the address: asking again would not help.
        """
        self._obstruct("start", "the account has not been read yet")
        takeover = Takeover(
            self._statements,
            self._gateway,
            self._instrument,
            self._clock,
            self._log,
            spot=self._spot,
            neutral=self.neutral,
            is_own=self._is_own,
            sleep=self._sleep,
        )
        async with self._work:
            await takeover.sweep(previous)
            self._good_at = self._clock.now()
            taken = await takeover.take(previous)
            self.neutral = taken.neutral
            self._recover(taken.recovered)
            # What happened before is in the position, and must not be recovered once more.
            self._covered.update(fill_key(fill) for fill in taken.covered)
            self._covered.update(() if previous is None else previous.keys)
            if taken.expected_lots not in (None, taken.lots):
                self._log.warning(
                    "position_differs", expected_lots=taken.expected_lots, venue_lots=taken.lots
                )
            await self._adopt(taken.lots, taken.recovered_lots, "start")
        self._log.info(
            "account_taken_over",
            lots=taken.lots,
            recovered_fills=len(taken.recovered),
            neutral=str(taken.neutral) if self._spot else None,
            run=None if previous is None else previous.run,
        )
        self._lift("start")

    # --- while running --------------------------------------------------------------------

    async def reconnected(self) -> None:
        """The private stream was away and speaks again: returns once everything is equal.

        What happened in between was not told: nothing rests meanwhile. Failures of the venue
        only make it take longer.
        """
        self._obstruct("stream", "the private stream was away")
        async with self._work:
            await self._settle()
        self._lift("stream")

    def nudge(self) -> None:
        """Something is strange: look at the open orders soon."""
        self._due["orders"] = min(self._due["orders"], self._listed_at + ORDERS_SPACING_NS)

    async def run(self) -> None:
        """Compare until cancelled. Raises AnotherInstance."""
        now = self._clock.now()
        self._due = {"orders": now, "position": now, "answers": now}
        while True:
            async with self._work:
                await self._step()
            await self._sleep(TICK_S)

    async def _step(self) -> None:
        if self._clock.now() >= self._due["answers"]:
            self._due["answers"] = self._clock.now() + self._periods.answers
            self._check_answers()
        if self._clock.now() >= self._due["orders"]:
            self._due["orders"] = self._clock.now() + self._periods.orders
            await self._check_orders()
        if self._clock.now() >= self._due["position"]:
            self._due["position"] = self._clock.now() + self._periods.position
            await self._check_position()

    def _check_answers(self) -> None:
        """Ask about requests that got no answer."""
        now = self._clock.now()
        late = overdue(self._beliefs.working(), self._gateway.touched_at, now)
        for order_id in late[:DOUBTS_MAX]:
            self._log.warning("answer_overdue", order=order_id)
            self._gateway.doubt(order_id)

    async def _check_orders(self) -> None:
        asked_at = self._listed_at = self._clock.now()
        try:
            listed = await self._statements.open_orders()
        except ReadFailed as failure:
            self._failed("orders", str(failure))
            return
        verdict = self._orders.judge(
            self._beliefs.working(), listed, self._gateway.touched_at, asked_at
        )
        if verdict.contradicts:
            self._failed("orders", "the venue lists no order although some rest")
        else:
            self._succeeded("orders")
        self._report_foreign(verdict.foreign)
        for order_id in verdict.strays:
            self._log.warning("stray_cancelled", order=order_id)
            self._gateway.cancel_stray(order_id)
            self._count_stranger(order_id)
        for order_id in verdict.doubts[:DOUBTS_MAX]:
            self._log.warning("order_doubted", order=order_id)
            self._gateway.doubt(order_id)
        if verdict.strays or verdict.doubts:
            self.nudge()

    async def _check_position(self) -> None:
        standing = await self._stand()
        if standing in (Standing.MISMATCH, Standing.SUSPECT):
            detail = f"the venue's position is off by {self._position.off} lots"
            self._log.error("position_mismatch", off_lots=self._position.off)
            self._obstruct("mismatch", detail)
            await self._settle()
            self._lift("mismatch")
        elif standing is not Standing.EQUAL:
            self._due["position"] = self._clock.now() + HOLDINGS_AGAIN_NS

    async def _settle(self) -> None:
        """Make orders, executions and position equal again; returns once they are.

        Orders that are not as the venue lists them are asked about, executions since the
        position was last right are pulled. A difference that this leaves is adopted.
        """
        caught_up = False
        equal = 0
        self._position.forget()
        self._orders.forget()
        while equal < EQUAL_READS:
            self._check_answers()
            caught_up = caught_up or await self._catch_up()
            standing = await self._stand() if caught_up else None
            good = standing is Standing.EQUAL and self._is_settled()
            equal = equal + 1 if good else 0
            if standing is Standing.MISMATCH:
                await self._explain(self._position.off)
            await self._sleep(RETRY_S)

    async def _explain(self, off: int) -> None:
        """A proven difference: look for executions once more, then adopt it."""
        if not await self._catch_up():
            return
        await self._sleep(RETRY_S)  # the engine learns them meanwhile
        again = await self._stand()
        if again is Standing.MISMATCH and self._position.off == off:
            believed = self._beliefs.position_lots
            self._log.error("position_adopted", believed_lots=believed, venue_lots=believed + off)
            await self._adopt(believed + off, believed, "reconcile")
            self._position.forget()

    async def _catch_up(self) -> bool:
        """Ask about orders that differ and pull executions; False if that is not all yet."""
        since = max(self._good_at, self._clock.now() - HISTORY_NS) - OVERLAP_NS
        try:
            listed = await self._statements.open_orders()
            fills = await self._statements.executions(since)
        except ReadFailed as failure:
            self._log.warning("reconcile_failed", what="executions", why=str(failure))
            return False
        self._report_foreign(foreign(listed, self._is_own))
        working = self._beliefs.working()
        here = {order.order_id for order in working}
        # While nothing may rest, asking about an order too many does no harm.
        doubts = [i for i in compare(working, listed, self._is_own) if i in here]
        for order_id in doubts[:DOUBTS_MAX]:
            self._gateway.doubt(order_id)
        self._recover(fills)
        return len(doubts) <= DOUBTS_MAX

    async def _stand(self) -> Standing | None:
        """One reading of the position, judged; None when there was none."""
        asked_at = self._clock.now()
        before = self._beliefs.position_lots
        settled = self._is_settled()
        try:
            held = await self._statements.holdings()
        except ReadFailed as failure:
            self._failed("position", str(failure))
            return None
        believed = self._beliefs.position_lots
        read = PositionRead(
            asked_at,
            self._off(believed, held, self._beliefs.base_fees),
            empty=held.position == 0,
            settled=settled and self._is_settled() and believed == before,
        )
        standing = self._position.judge(read, self._gateway.active_at, self._beliefs.filled_at)
        if standing is Standing.CONTRADICTS:
            self._failed("position", "the venue holds nothing although something just traded")
            return standing
        self._failures["position"] = 0
        if standing is Standing.EQUAL:
            self._good_at = asked_at
            self._lift("position")
        return standing

    def _is_settled(self) -> bool:
        if self._gateway.in_flight or self._beliefs.owed():
            return False
        return all(order.state in AT_REST for order in self._beliefs.working())

    # --- shared ---------------------------------------------------------------------------

    def _off(self, lots: int, held: Holdings, base_fees: Decimal) -> int:
        """By how many lots the venue's position differs from `lots`."""
        position = held.position
        if self._spot:
            assert self.neutral is not None, "start finds what is neutral"
            position += base_fees - self.neutral
        return position_off(lots, position, self._instrument.lot, exact=not self._spot)

    def _recover(self, fills: Sequence[Execution]) -> None:
        """Tell the engine of executions that it does not know."""
        for fill in fills:
            key = fill_key(fill)
            if key in self._covered or self._beliefs.knows_fill(key):
                continue
            known = self._beliefs.knows_order(fill.order_id)
            self._log.warning("fill_recovered", order=fill.order_id, trade=fill.trade_id)
            self._put(told(fill, fill.order_id, self._clock.now(), known=known))

    async def _adopt(self, lots: int, believed: int, reason: Literal["start", "reconcile"]) -> None:
        """Take `lots` for our position, once there is a price to value the difference at."""
        while lots != believed and self._beliefs.tick2 == 0:
            await self._sleep(TICK_S)
        self._put(PositionAdopted(self._clock.now(), lots, self._beliefs.tick2, reason))

    def _report_foreign(self, order_ids: Collection[str]) -> None:
        """Say once of each order of somebody else that it is there; it is left alone."""
        there = set(order_ids)
        for order_id in sorted(there - self._foreign):
            self._log.warning("foreign_order", order=order_id)
        self._foreign = there

    def _count_stranger(self, order_id: str) -> None:
        if self._is_of_run(order_id):
            return
        self._strangers.add(order_id)
        if len(self._strangers) >= STRANGERS_MAX:
            raise another_instance(self._instrument.symbol, order_id)

    def _failed(self, what: str, why: str) -> None:
        """Count a reading that failed or contradicts what we know."""
        self._failures[what] += 1
        self._log.warning("reconcile_failed", what=what, why=why, failures=self._failures[what])
        if self._failures[what] >= FAILURES_MAX:
            self._obstruct(what, why)

    def _succeeded(self, what: str) -> None:
        self._failures[what] = 0
        self._lift(what)

    def _obstruct(self, reason: str, detail: str) -> None:
        """Nothing may rest for this reason too."""
        if not self._reasons:
            self._put(Obstructed(self._clock.now(), OBSTACLE, detail))
        self._reasons[reason] = detail

    def _lift(self, reason: str) -> None:
        """This reason is gone; the last one takes the obstacle with it."""
        if self._reasons.pop(reason, None) is not None and not self._reasons:
            self._put(Cleared(self._clock.now(), OBSTACLE))

    def __repr__(self) -> str:
        return f"<Reconciler {self._reasons or 'equal'} good at {self._good_at}>"
