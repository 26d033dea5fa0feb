"""What the venue says about our account when asked, one question at a time and to the end.

A question that fails, an answer that cannot be read and a history that does not end are all
`ReadFailed`: never an empty account (RISK 0.7). A venue that asks for silence gets it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar

from msgspec.structs import replace

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.shell.clock import Clock
from bot.shell.wire import CallFailed
from bot.venues.orderentry import (
    Call,
    Execution,
    Holdings,
    OrderCodec,
    OrderReport,
    Refusal,
    Verdict,
)

# A history is read in steps: binance-spot's myTrades spans 24 h at most, USD-M's userTrades 7 days.
WINDOW_MS: Final = 24 * 3_600_000
CUT_ROWS_MIN: Final = 500  # the shortest list that may have been cut at a limit (Binance's default)
PAGES_MAX: Final = 1_000
VENUE_IDS_MAX: Final = 16_384

Answer = TypeVar("Answer")

FillKey = tuple[str, str, Side]  # order, trade, side: one execution


class ReadFailed(Exception):
    """No answer that can be relied on; str says why, `refusal` what the venue said, if it did."""

    def __init__(self, why: str, refusal: Refusal | None = None) -> None:
        super().__init__(why)
        self.refusal = refusal


class Caller(Protocol):
    """`Wire.call`, possibly behind a budget."""

    def __call__(self, call: Call) -> Awaitable[Any]: ...


def fill_key(fill: Execution) -> FillKey:
    """What makes an execution the same one, whoever tells of it."""
    return fill.order_id, fill.trade_id, fill.side


class Statements:
    """Questions about one account and symbol; `is_own` knows our client ids.

    Executions of a venue that names only its own order ids are matched through every list that
    was read; what is nobody's we know is counted in `foreign_executions` and left out.
    """

    __slots__ = ("_call", "_clock", "_codec", "_is_own", "_silent_until", "_turn", "_venue_ids",
                 "foreign_executions")  # fmt: skip

    def __init__(
        self, call: Caller, codec: OrderCodec, clock: Clock, is_own: Callable[[str], bool]
    ) -> None:
        self._call = call
        self._codec = codec
        self._clock = clock
        self._is_own = is_own
        self._turn = asyncio.Lock()
        self._silent_until = 0  # ns
        self._venue_ids: dict[str, str] = {}  # venue's order id -> client id, oldest first
        self.foreign_executions = 0

    async def open_orders(self) -> list[OrderReport]:
        """Every open order of the symbol, ours or not. Raises ReadFailed."""
        return self._noted(await self._ask(self._codec.open_orders(), self._codec.read_orders))

    async def order(self, order_id: str) -> OrderReport | None:
        """One order by its client id; None when the venue knows no such order."""
        try:
            report = await self._ask(self._codec.order(order_id), self._codec.read_order)
        except ReadFailed as failure:
            if failure.refusal is not None and failure.refusal.verdict is Verdict.ABSENT:
                return None
            raise
        return self._noted([report])[0]

    async def holdings(self) -> Holdings:
        """What the account holds. Raises ReadFailed."""
        return await self._ask(self._codec.holdings(), self._codec.read_holdings)

    async def filters(self) -> Instrument:
        """The symbol's filters. Raises ReadFailed."""
        return await self._ask(self._codec.filters(), self._codec.read_filters)

    async def executions(self, since: int) -> list[Execution]:
        """All our executions from `since` (ns) to now, each once, with its client id.

        Raises ReadFailed when any page of them is missing.
        """
        found = await self._every_execution(since)
        if any(not fill.order_id and fill.venue_id not in self._venue_ids for fill in found):
            await self._learn_venue_ids(since)
        named = [self._named(fill) for fill in found]
        own = [fill for fill in named if self._is_own(fill.order_id)]
        self.foreign_executions += len(named) - len(own)
        return sorted(own, key=lambda fill: fill.at)

    async def _every_execution(self, since: int) -> list[Execution]:
        """Page by page: a page that brings something new is asked for what follows it.

        The next page begins with the millisecond of the last execution, which may have more.
        """
        found: dict[tuple[str, str, str, Side], Execution] = {}
        since_ms = since // NS_PER_MS
        for _ in range(PAGES_MAX):
            call = self._codec.executions(since_ms)
            page = await self._ask(call, self._codec.read_executions)
            known = len(found)
            for fill in page:
                found[(fill.order_id, fill.venue_id, fill.trade_id, fill.side)] = fill
            if len(found) > known:
                since_ms = max(since_ms, *(fill.at // NS_PER_MS for fill in page))
            elif len(page) >= CUT_ROWS_MIN:
                raise ReadFailed("more executions in one millisecond than a page holds")
            elif since_ms + WINDOW_MS >= self._clock.now() // NS_PER_MS:
                return list(found.values())
            else:
                since_ms += WINDOW_MS
        raise ReadFailed(f"the executions do not end after {PAGES_MAX} pages")

    async def _learn_venue_ids(self, since: int) -> None:
        """Read the history of orders; what it does not name is not ours."""
        since_ms = since // NS_PER_MS
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            call = self._codec.orders_since(since_ms)
            page = self._noted(await self._ask(call, self._codec.read_orders))
            fresh = [report for report in page if report.venue_id not in seen]
            if not fresh or len(page) < CUT_ROWS_MIN:
                return
            seen.update(report.venue_id for report in fresh)
            since_ms = max(since_ms, *(report.updated_at // NS_PER_MS for report in page))
        raise ReadFailed(f"the orders do not end after {PAGES_MAX} pages")

    def _named(self, fill: Execution) -> Execution:
        if fill.order_id:
            return fill
        return replace(fill, order_id=self._venue_ids.get(fill.venue_id, ""))

    def _noted(self, reports: list[OrderReport]) -> list[OrderReport]:
        for report in reports:
            self._venue_ids.pop(report.venue_id, None)
            self._venue_ids[report.venue_id] = report.order_id
        while len(self._venue_ids) > VENUE_IDS_MAX:
            del self._venue_ids[next(iter(self._venue_ids))]
        return reports

    async def _ask(self, call: Call, read: Callable[[Any], Answer]) -> Answer:
        async with self._turn:
            if self._clock.now() < self._silent_until:
                raise ReadFailed(f"{call.method}: the venue asked for silence")
            try:
                body = await self._call(call)
            except CallFailed as failure:
                silence = round(failure.refusal.limited_s * NS_PER_S)
                self._silent_until = max(self._silent_until, self._clock.now() + silence)
                raise ReadFailed(f"{call.method}: {failure}", failure.refusal) from failure
        try:
            return read(body)
        except ValueError as fault:
            raise ReadFailed(f"{call.method} cannot be read: {fault}") from fault

    def __repr__(self) -> str:
        return f"<Statements {len(self._venue_ids)} orders known>"
