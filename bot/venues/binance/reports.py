"""What Binance answers about orders and executions. Pure; ValueError for what is no answer.

Sources: responses of "New order", "Cancel order", "Order Amend Keep Priority", "Query order",
"Account trade list" (spot) and of "Trade" (USD-M); "Order status" of both.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, Side
from bot.venues.binance.amounts import decimal_of, nearest_step, side_of, steps
from bot.venues.binance.ids import is_own
from bot.venues.binance.refusals import refusal
from bot.venues.orderentry import Execution, OrderReport, Refusal, Status

STATUS: Final = {
    "NEW": Status.OPEN,
    "PENDING_NEW": Status.OPEN,
    "PARTIALLY_FILLED": Status.OPEN,
    "PENDING_CANCEL": Status.OPEN,
    "FILLED": Status.FILLED,
    "CANCELED": Status.CANCELLED,
    "EXPIRED": Status.EXPIRED,
    "EXPIRED_IN_MATCH": Status.EXPIRED,  # self-trade prevention
    "REJECTED": Status.REJECTED,
}


class _Order(msgspec.Struct, rename="camel"):
    """An order in any REST answer.

    A spot cancel has an id of its own in `clientOrderId`; the order's is then the original.
    An amended spot order names its quantities otherwise.
    """

    symbol: str
    order_id: int
    client_order_id: str
    price: str
    executed_qty: str
    status: str
    side: str
    orig_qty: str = ""
    qty: str = ""
    orig_client_order_id: str = ""
    prevented_quantity: str = "0"
    prevented_qty: str = "0"
    update_time: int = 0
    transact_time: int = 0


class _Amended(msgspec.Struct, rename="camel"):
    transact_time: int
    amended_order: _Order


class _Trade(msgspec.Struct, rename="camel"):
    """One row of `userTrades` or `myTrades`; each product names maker and side its own way."""

    symbol: str
    id: int
    order_id: int
    price: str
    qty: str
    time: int
    commission: str
    commission_asset: str
    side: str = ""
    maker: bool | None = None
    is_buyer: bool | None = None
    is_maker: bool | None = None


class _Error(msgspec.Struct):
    code: int
    msg: str = ""


def reading_of(order_id: str) -> Callable[[str, Decimal], int]:
    """How an order's numbers become steps: of an own order exactly.

    A stranger's may stem from a tick or lot that no longer holds, and nothing is decided by it.
    """
    return steps if is_own(order_id) else nearest_step


class Answers:
    """Reads the answers about one symbol's orders."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument

    def read_order(self, body: Any) -> OrderReport:
        """One order: the answer to a placement, an amend, a cancel or a question."""
        if isinstance(body, dict) and "amendedOrder" in body:
            amended = msgspec.convert(body, _Amended)
            amended.amended_order.transact_time = amended.transact_time
            return self._report(amended.amended_order)
        return self._report(msgspec.convert(body, _Order))

    def read_placed(self, body: Any) -> list[OrderReport | Refusal]:
        """The outcome of each order of a placement, in their order.

        A refused order of a batch is an error object in its place, under HTTP 200. An order
        that was taken and ended at once comes with its status, REJECTED and EXPIRED included.
        """
        rows = body if isinstance(body, list) else [body]
        if not rows:
            raise ValueError("an empty answer to a placement")
        return [self._placed(row) for row in rows]

    def read_orders(self, body: Any) -> list[OrderReport]:
        """Open orders, or orders of any state; an empty list is an answer, nothing else is."""
        return [self._report(order) for order in msgspec.convert(body, list[_Order])]

    def read_executions(self, body: Any) -> list[Execution]:
        """Executions by rising trade id. Only the venue's id names the order here."""
        trades = msgspec.convert(body, list[_Trade])
        return [self._execution(trade) for trade in sorted(trades, key=lambda trade: trade.id)]

    def _placed(self, row: Any) -> OrderReport | Refusal:
        if isinstance(row, dict) and "code" in row:
            error = msgspec.convert(row, _Error)
            return refusal(self.instrument.venue, 200, error.code, error.msg)
        return self.read_order(row)

    def _report(self, order: _Order) -> OrderReport:
        self._check_symbol(order.symbol)
        status = STATUS.get(order.status)
        if status is None:
            raise ValueError(f"{order.status!r} is no status of an order")
        order_id = order.orig_client_order_id or order.client_order_id
        read, lot = reading_of(order_id), self.instrument.lot
        lots = read(order.orig_qty or order.qty, lot)
        if status is Status.OPEN:
            # Self-trade prevention may have taken a part away that will never trade.
            prevented = order.prevented_quantity, order.prevented_qty
            lots -= max(read(text, lot) for text in prevented)
        return OrderReport(
            order_id=order_id,
            venue_id=str(order.order_id),
            status=status,
            side=side_of(order.side),
            tick=read(order.price, self.instrument.tick),
            lots=lots,
            cumulative_lots=read(order.executed_qty, lot),
            updated_at=(order.update_time or order.transact_time) * NS_PER_MS,
        )

    def _execution(self, trade: _Trade) -> Execution:
        self._check_symbol(trade.symbol)
        maker = trade.maker if trade.is_maker is None else trade.is_maker
        if maker is None:
            raise ValueError(f"trade {trade.id} does not say who was the maker")
        if trade.is_buyer is None:
            side = side_of(trade.side)
        else:
            side = Side.BUY if trade.is_buyer else Side.SELL
        return Execution(
            at=trade.time * NS_PER_MS,
            order_id="",
            venue_id=str(trade.order_id),
            trade_id=str(trade.id),
            side=side,
            tick=steps(trade.price, self.instrument.tick),
            lots=steps(trade.qty, self.instrument.lot),
            maker=maker,
            fee=decimal_of(trade.commission),
            fee_currency=trade.commission_asset,
        )

    def _check_symbol(self, symbol: str) -> None:
        if symbol != self.instrument.symbol:
            raise ValueError(f"an answer about {symbol}, not {self.instrument.symbol}")
