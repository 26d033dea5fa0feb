"""The start of a run on an account that earlier runs have used.

    sweep   every order of theirs is cancelled, until the venue has none of ours
    take    what traded since their last word is recovered; the venue's position is ours

Questions are asked until they are answered: nothing is quoted before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import msgspec

from bot.core.fillkeys import FillKey
from bot.core.reconcile import QUIET_NS, position_off
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.shell.statements import ReadFailed, Statements, fill_key
from bot.venues.orderentry import Execution, Holdings

EMPTY_NS: Final = 500 * NS_PER_MS  # between two empty lists that prove an empty venue
CANCEL_AGAIN_NS: Final = 2 * NS_PER_S
# A bot whose orders are taken out pauses for five seconds and quotes again: whose orders are in
# no journal of ours may live, and shows it within this time.
ALIVE_NS: Final = 10 * NS_PER_S
OVERLAP_NS: Final = 60 * NS_PER_S  # of histories: clocks differ, and the last records may be lost
# As far back as journals tell executions apart and a venue answers in one stretch (USD-M: seven
# days), less what its clock may differ.
HISTORY_NS: Final = (7 * 24 - 1) * 3_600 * NS_PER_S
ROUNDS: Final = 3  # of pulling executions before a difference is believed
RETRY_S: Final = 1.0
COMPLAIN_EVERY: Final = 3  # failures

Answer = TypeVar("Answer")


class AnotherInstance(Exception):
    """Another live bot trades this account and symbol under our prefix; one sentence."""


def another_instance(symbol: str, order_id: str) -> AnotherInstance:
    """Say so of an order that only another bot can have placed."""
    return AnotherInstance(
        f"another bot places orders on {symbol} under our prefix ({order_id}): "
        "one account and symbol carries one bot, stop the other first"
    )


class Previous(msgspec.Struct, frozen=True):
    """What the journals of earlier runs say.

    `position` in base currency; None when none of them knew it. `neutral` is the balance that
    counts as no position (spot), the fees that were paid in base currency taken off. `keys` are
    the executions that they hold, each with its time in ns; `last_at` is the time of their last
    event, `unfinished` the orders whose end they do not tell.
    """

    run: str
    position: Decimal | None
    neutral: Decimal | None
    keys: dict[FillKey, int]
    last_at: int
    unfinished: tuple[str, ...] = ()


class Taken(msgspec.Struct, frozen=True):
    """How a run begins: the venue's position in lots and what led to it.

    `expected_lots` is what the journals and the recovered executions add up to, None without
    a past. `neutral` as in `Previous`, zero for derivatives. `covered` are executions of before
    that were seen, `recovered` those of them that no journal holds: both are in `lots`.
    """

    lots: int
    expected_lots: int | None
    neutral: Decimal
    recovered: tuple[Execution, ...] = ()
    covered: tuple[Execution, ...] = ()

    @property
    def recovered_lots(self) -> int:
        """The sum of the recovered executions."""
        return sum(fill.side * fill.lots for fill in self.recovered)


class Canceller(Protocol):
    """Who can cancel orders that no engine knows; the gateway is one."""

    def cancel_stray(self, order_id: str) -> None: ...


class Takeover:
    """One symbol's account, taken over at the start of a run.

    `neutral` of a spot account as in `Previous`, None to find it; `is_own` knows the client
    ids of our prefix. `sleep` takes seconds.
    """

    __slots__ = ("_clock", "_instrument", "_is_own", "_log", "_neutral", "_orders", "_sleep",
                 "_spot", "_statements")  # fmt: skip

    def __init__(
        self,
        statements: Statements,
        orders: Canceller,
        instrument: Instrument,
        clock: Clock,
        log: Any,
        *,
        spot: bool,
        neutral: Decimal | None,
        is_own: Callable[[str], bool],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._statements = statements
        self._orders = orders
        self._instrument = instrument
        self._clock = clock
        self._log = log
        self._spot = spot
        self._neutral = neutral if spot else Decimal(0)
        self._is_own = is_own
        self._sleep = sleep

    async def sweep(self, previous: Previous | None) -> None:
        """Cancel every order of ours, until two lists in a row have none.

        After another run the second is late enough for a placement that was on its way when
        that run died; after orders that no journal of ours knows, for their bot to place others,
        should it live. Raises AnotherInstance when orders of ours appear meanwhile, and
        ReadFailed when the venue refuses the key or the address.
        """
        started_at = self._clock.now()
        patience_ns = EMPTY_NS if previous is None else QUIET_NS
        expected = set(() if previous is None else previous.unfinished)
        cancelled_at: dict[str, int] = {}
        empty_at: int | None = None
        first = True
        while True:
            asked_at = self._clock.now()
            listed = await self._insist(self._statements.open_orders)
            own = sorted(one.order_id for one in listed if self._is_own(one.order_id))
            if first and own:
                self._log.warning("orders_left", orders=own)
            if first and not expected.issuperset(own):
                patience_ns = ALIVE_NS
            for order_id in own:
                if not first and order_id not in expected:
                    raise another_instance(self._instrument.symbol, order_id)
                if cancelled_at.get(order_id, 0) + CANCEL_AGAIN_NS <= asked_at:
                    cancelled_at[order_id] = asked_at
                    self._orders.cancel_stray(order_id)
            expected.update(own)
            first = False
            if own:
                empty_at = None
            elif empty_at is None:
                empty_at = asked_at
            elif asked_at - empty_at >= EMPTY_NS and asked_at - started_at >= patience_ns:
                return
            await self._sleep(EMPTY_NS / NS_PER_S)

    async def take(self, previous: Previous | None) -> Taken:
        """Recover executions and read the position; to be called when nothing rests.

        A difference to what the journals say is believed after `ROUNDS` looks at the history,
        which may lag behind the balances. Raises ReadFailed as `sweep` does.
        """
        if previous is not None:
            for order_id in previous.unfinished:  # by which name its executions may go
                await self._insist(partial(self._statements.order, order_id))
        for round_ in range(1, ROUNDS + 1):
            history = await self._history(previous)
            held = await self._steady_holdings()
            taken = self._judge(previous, held, history)
            if taken.expected_lots in (None, taken.lots) or round_ == ROUNDS:
                break
            await self._sleep(RETRY_S)
        return taken

    async def _history(self, previous: Previous | None) -> tuple[Execution, ...]:
        """Executions since the last run, or of just before: in both cases with some overlap."""
        now = self._clock.now()
        since = now if previous is None else max(previous.last_at, now - HISTORY_NS)
        return tuple(await self._insist(partial(self._statements.executions, since - OVERLAP_NS)))

    async def _steady_holdings(self) -> Holdings:
        """What the venue says twice in a row."""
        held = await self._insist(self._statements.holdings)
        while True:
            await self._sleep(EMPTY_NS / NS_PER_S)
            again = await self._insist(self._statements.holdings)
            if again.position == held.position:
                return again
            held = again

    def _judge(
        self, previous: Previous | None, held: Holdings, history: tuple[Execution, ...]
    ) -> Taken:
        """What the account holds, and whether the past explains it."""
        recovered: tuple[Execution, ...] = ()
        if previous is not None:
            recovered = tuple(fill for fill in history if fill_key(fill) not in previous.keys)
        neutral = self._neutral
        if neutral is None and previous is not None:
            neutral = previous.neutral
        if neutral is None:
            neutral = held.position  # the first run of all: what is there is no position
        position = held.position - neutral
        if self._spot:
            position += fees_in_base(recovered, self._instrument.base)
        lot, exact = self._instrument.lot, not self._spot
        if previous is None or previous.position is None:
            lots = position_off(0, position, lot, exact)
            return Taken(lots, None, neutral, recovered, history)
        net = sum(fill.side * fill.lots for fill in recovered)
        expected = int(previous.position / lot) + net
        off = position_off(expected, position, lot, exact)
        return Taken(expected + off, expected, neutral, recovered, history)

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        failures = 0
        while True:
            try:
                return await ask()
            except ReadFailed as failure:
                if failure.refusal is not None and (failure.refusal.auth or failure.refusal.banned):
                    raise
                failures += 1
                if failures % COMPLAIN_EVERY == 0:
                    self._log.error("account_unreadable", why=str(failure), failures=failures)
                await self._sleep(RETRY_S)

    def __repr__(self) -> str:
        return f"<Takeover of {self._instrument.symbol}>"


def fees_in_base(fills: Sequence[Execution], base: str) -> Decimal:
    """Fees that were taken out of what was bought: they have left the balance, not by a trade."""
    fees = [fill.fee for fill in fills if fill.fee is not None and fill.fee_currency == base]
    return sum(fees, Decimal(0))
