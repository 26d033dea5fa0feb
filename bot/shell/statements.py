"""What the venue says about our account when asked, one question at a time and to the end.

A question that fails, an answer that cannot be read and a history that does not end are all
`ReadFailed`: never an empty account.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from bot.core.fillkeys import FillKey
from bot.domain.events import Filled, FillRecovered
from bot.domain.units import NS_PER_MS
from bot.shell.wire import Ask, CallFailed
from bot.venues.orderentry import (
    Call,
    Execution,
    Holdings,
    OrderCodec,
    OrderReport,
    Refusal,
    Verdict,
)

PAGES_MAX: Final = 1_000
VENUE_IDS_MAX: Final = 16_384

Answer = TypeVar("Answer")
Row = TypeVar("Row")


class ReadFailed(Exception):
    """No answer that can be relied on; str says why, `refusal` what the venue said, if it did."""

    def __init__(self, why: str, refusal: Refusal | None = None) -> None:
        super().__init__(why)
        self.refusal = refusal


def fill_key(fill: Execution) -> FillKey:
    """What makes an execution the same one, whoever tells of it."""
    return fill.order_id, fill.trade_id, fill.side


def told(fill: Execution, order_id: str, at: int, *, known: bool) -> Filled | FillRecovered:
    """An execution of an order as the engine learns it; `known`: it still knows that order."""
    kind = Filled if known else FillRecovered
    return kind(
        at=at,
        order_id=order_id,
        trade_id=fill.trade_id,
        side=fill.side,
        tick=fill.tick,
        lots=fill.lots,
        maker=fill.maker,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
    )


class Statements:
    """Questions about one account and symbol; `is_own` knows our client ids.

    `ask` sends a call when budget and venue allow it; `Gateway.ask` does.

    Executions of a venue that names only its own order ids are matched through every list that
    was read; what is nobody's we know is counted in `foreign_executions` and left out.
    """

    __slots__ = ("_ask", "_codec", "_is_own", "_turn", "_venue_ids",
                 "foreign_executions")  # fmt: skip

    def __init__(self, ask: Ask, codec: OrderCodec, is_own: Callable[[str], bool]) -> None:
        self._ask = ask
        self._codec = codec
        self._is_own = is_own
        self._turn = asyncio.Lock()
        self._venue_ids: dict[str, str] = {}  # venue's order id -> client id, oldest first
        self.foreign_executions = 0

    async def open_orders(self) -> list[OrderReport]:
        """Every open order of the symbol, ours or not. Raises ReadFailed."""
        return self._noted(await self._answer(self._codec.open_orders(), self._codec.read_orders))

    async def order(self, order_id: str) -> OrderReport | None:
        """One order by its client id; None when the venue knows no such order."""
        try:
            report = await self._answer(self._codec.order(order_id), self._codec.read_order)
        except ReadFailed as failure:
            if failure.refusal is not None and failure.refusal.verdict is Verdict.ABSENT:
                return None
            raise
        return self._noted([report])[0]

    async def holdings(self) -> Holdings:
        """What the account holds. Raises ReadFailed."""
        return await self._answer(self._codec.holdings(), self._codec.read_holdings)

    async def executions(self, since: int) -> list[Execution]:
        """All our executions from `since` (ns, within a week) to now, with their client ids.

        Raises ReadFailed when any page of them is missing.
        """
        codec, since_ms = self._codec, since // NS_PER_MS
        found = await self._all_pages(
            codec.executions(since_ms),
            codec.read_executions,
            lambda last: codec.executions_after(last.trade_id),
        )
        if any(not fill.order_id and fill.venue_id not in self._venue_ids for fill in found):
            orders = await self._all_pages(
                codec.orders_since(since_ms),
                codec.read_orders,
                lambda last: codec.orders_after(last.venue_id),
            )
            self._noted(orders)  # what it does not name either is not ours
        named = [self._named(fill) for fill in found]
        own = [fill for fill in named if self._is_own(fill.order_id)]
        self.foreign_executions += len(named) - len(own)
        return own

    async def _all_pages(
        self, call: Call, read: Callable[[Any], list[Row]], after: Callable[[Row], Call]
    ) -> list[Row]:
        """Every row from the first page on: a full page has more behind its last row."""
        rows: list[Row] = []
        for _ in range(PAGES_MAX):
            page = await self._answer(call, read)
            rows += page
            if len(page) < self._codec.capabilities.page_max:
                return rows
            call = after(page[-1])
        raise ReadFailed(f"{call.method} does not end after {PAGES_MAX} pages")

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

    async def _answer(self, call: Call, read: Callable[[Any], Answer]) -> Answer:
        async with self._turn:
            try:
                body = await self._ask(call)
            except CallFailed as failure:
                raise ReadFailed(f"{call.method}: {failure}", failure.refusal) from failure
        try:
            return read(body)
        except ValueError as fault:
            raise ReadFailed(f"{call.method} cannot be read: {fault}") from fault

    def __repr__(self) -> str:
        return f"<Statements {len(self._venue_ids)} orders known>"
