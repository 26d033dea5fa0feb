"""A symbol's filters, status and fees while it is traded: what a run was built on must hold.

Another tick or lot makes every number of a run mean something else: nothing may rest any more,
and the run is to be built anew. A symbol that does not trade is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog

from bot.domain.events import Cleared, Obstructed
from bot.domain.instrument import Fees, Instrument
from bot.shell.clock import Clock
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import Call, NotTrading

PERIOD_S: Final = 60.0
FAILURES_MAX: Final = 3  # in a row, before it is worth a warning
RULES: Final = ("tick", "lot", "min_qty_lots", "min_notional")

Put = Callable[[Obstructed | Cleared], None]


class FilterWords(Protocol):
    """What it needs of an order codec."""

    def filters(self) -> Call: ...
    def fees(self) -> Call: ...
    def read_filters(self, body: Any) -> Instrument: ...
    def read_fees(self, body: Any) -> Fees: ...


class FiltersWatch:
    """Compares a run's instrument and fees with the venue's, once a minute.

    `changed` is called once, with the instrument as it is now, when a rule is another than the
    run's: the obstacle `filters` stands until the run is over. `fees` are the latest rates; new
    ones apply to the next run. `sleep` takes seconds.
    """

    __slots__ = (
        "_ask",
        "_asked_at",
        "_changed",
        "_clock",
        "_codec",
        "_failures",
        "_instrument",
        "_log",
        "_outdated",
        "_period_s",
        "_put",
        "_sleep",
        "_trading",
        "fees",
    )  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        codec: FilterWords,
        put: Put,
        clock: Clock,
        instrument: Instrument,
        fees: Fees,
        changed: Callable[[Instrument], None],
        *,
        period_s: float = PERIOD_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.fees = fees
        self._ask = ask
        self._codec = codec
        self._put = put
        self._clock = clock
        self._instrument = instrument
        self._changed = changed
        self._period_s = period_s
        self._sleep = sleep
        self._log = structlog.get_logger()
        self._asked_at = 0  # of the newest answer
        self._failures = 0
        self._outdated = False  # told once
        self._trading = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await self._sleep(self._period_s)

    async def look(self) -> None:
        """Ask for filters and fees once; a question that fails says nothing about either."""
        asked_at = self._clock.now()
        try:
            found = await self._filters()
            fees = self._codec.read_fees(await self._ask(self._codec.fees()))
        except (CallFailed, ValueError) as failure:
            self._failures += 1
            if self._failures % FAILURES_MAX == 0:
                self._log.warning("filters_unread", why=str(failure), failures=self._failures)
            return
        self._failures = 0
        if asked_at < self._asked_at:
            return  # a slow answer: a newer one has been told
        self._asked_at = asked_at
        self._take_status(found)
        if isinstance(found, Instrument):
            self._take_rules(found)
        if fees != self.fees:
            self._log.warning("fees_changed", maker=str(fees.maker), taker=str(fees.taker))
            self.fees = fees

    async def _filters(self) -> Instrument | NotTrading:
        try:
            return self._codec.read_filters(await self._ask(self._codec.filters()))
        except NotTrading as resting:
            return resting

    def _take_status(self, found: Instrument | NotTrading) -> None:
        """Obstructed at every look: others also clear what they hold against the venue."""
        if isinstance(found, NotTrading):
            if self._trading:
                self._log.warning("venue_not_trading", why=str(found))
            self._trading = False
            self._put(Obstructed(self._clock.now(), "venue", str(found)))
        elif not self._trading:
            self._trading = True
            self._log.info("venue_trading")
            self._put(Cleared(self._clock.now(), "venue"))

    def _take_rules(self, found: Instrument) -> None:
        differences = differing(self._instrument, found)
        if not differences or self._outdated:
            return
        self._outdated = True
        detail = "; ".join(differences)
        self._log.error("filters_changed", changes=detail)
        self._put(Obstructed(self._clock.now(), "filters", detail))
        self._changed(found)

    def __repr__(self) -> str:
        state = "outdated" if self._outdated else "as the run knows them"
        return f"<FiltersWatch {self._instrument.symbol} {state}>"


def differing(known: Instrument, found: Instrument) -> list[str]:
    """The rules that are no longer what they were, each as "tick 0.1 -> 0.01"."""
    pairs = [(rule, getattr(known, rule), getattr(found, rule)) for rule in RULES]
    return [f"{rule} {before} -> {after}" for rule, before, after in pairs if before != after]
