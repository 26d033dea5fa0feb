"""What the private stream says, as events of the core. Pure; ValueError for what is malformed.

Sources: "User Data Streams" of the spot documents (`executionReport`, `eventStreamTerminated`);
"User Data Streams" of USD-M (`ORDER_TRADE_UPDATE`, `ACCOUNT_UPDATE`, `listenKeyExpired`).

Other messages say nothing: balances are asked for, and `TRADE_LITE` only repeats executions
without fee and total. A funding payment on a cross position does not name its symbol: it is
booked whole, so that the account should hold no other position in the same currency.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from bot.domain.events import (
    Amended,
    Filled,
    FillRecovered,
    Funded,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OwnEvent,
)
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS
from bot.venues.binance.amounts import decimal_of, nearest_step, side_of, steps
from bot.venues.binance.ids import is_forced, is_of_run, is_own
from bot.venues.binance.reports import STATUS, reading_of
from bot.venues.orderentry import OrderReport, Status, StreamNews

NOTHING: Final = StreamNews()
ENDED: Final = StreamNews(ended=True)

# USD-M "Expiry Reason"; 2, 8 and 9 cannot befall a resting limit order.
EXPIRY: Final = {
    "1": "self_trade",
    "3": "self_trade",
    "4": "displaced",
    "5": "liquidation",
    "6": "condition",
    "7": "delisted",
}
# Spot "Order Reject Reason", in the words of the refusals.
REJECT: Final = {"INSUFFICIENT_BALANCES": "balance", "WOULD_MATCH_IMMEDIATELY": "post_only"}

# Statuses that an order of the venue's own shows while it takes a position over.
TAKEOVER: Final = ("NEW_ADL", "NEW_INSURANCE")

EXECUTIONS: Final = ("TRADE", "CALCULATED")  # the second is a liquidation


class _Update(msgspec.Struct):
    """One order update, by the letters that both products share."""

    s: str  # symbol
    c: str  # client id
    S: str  # side
    q: str  # quantity
    p: str  # price
    x: str  # what happened
    X: str  # the order's status
    i: int  # the venue's id
    l: str  # noqa: E741  # last executed quantity
    z: str  # executed quantity in all
    L: str  # last executed price
    t: int  # trade id, 0 or -1 without a trade
    m: bool  # whether we were the maker
    T: int  # ms
    n: str | None = None  # commission; negative is a rebate
    N: str | None = None  # its currency

    def order_id(self) -> str:
        return self.c

    def expiry(self) -> str:
        return ""

    def prevented(self) -> str:
        return "0"


class _FuturesUpdate(_Update):
    er: int | str = "0"  # expiry reason

    def expiry(self) -> str:
        return EXPIRY.get(str(self.er), "")


class _SpotUpdate(_Update):
    C: str = ""  # the order's id where `c` is that of its cancel
    r: str = "NONE"  # reject reason
    A: str = "0"  # quantity that self-trade prevention took away in all
    eR: str = ""  # expiry reason

    def order_id(self) -> str:
        return self.C or self.c

    def expiry(self) -> str:
        return self.eR.lower()

    def prevented(self) -> str:
        return self.A


class _FuturesMessage(msgspec.Struct):
    o: _FuturesUpdate


class _Change(msgspec.Struct):
    a: str
    bc: str


class _Held(msgspec.Struct):
    s: str


class _Account(msgspec.Struct):
    m: str
    B: list[_Change]
    P: list[_Held] = []


class _AccountMessage(msgspec.Struct):
    a: _Account


class UserData:
    """Reads one symbol's part of the account's stream, for the run with `prefix`."""

    def __init__(self, instrument: Instrument, prefix: str) -> None:
        self.instrument = instrument
        self.prefix = prefix

    def read(self, message: Mapping[str, Any], at: int) -> StreamNews:
        """News of one message, received at `at` (ns), bare or wrapped.

        Reports of orders of earlier runs and of strangers are `foreign`. The position also
        follows what earlier runs' orders trade, and what the venue closes by force.
        """
        event = _unwrapped(message)
        match event.get("e"):
            case "ORDER_TRADE_UPDATE":
                return self._order(msgspec.convert(event, _FuturesMessage).o, at)
            case "executionReport":
                return self._order(msgspec.convert(event, _SpotUpdate), at)
            case "ACCOUNT_UPDATE":
                return self._account(msgspec.convert(event, _AccountMessage).a, at)
            case "listenKeyExpired" | "eventStreamTerminated":
                return ENDED
            case _:
                return NOTHING

    def _order(self, update: _Update, at: int) -> StreamNews:
        if update.s != self.instrument.symbol:
            return NOTHING
        order_id = update.order_id()
        if is_of_run(order_id, self.prefix):
            ids = ((order_id, str(update.i)),)
            return StreamNews(events=(self._own(update, order_id, at),), venue_ids=ids)
        traded = update.x in EXECUTIONS and decimal_of(update.l) > 0
        if traded and is_own(order_id):
            return StreamNews(events=(self._recovered(update, order_id, at),))
        report = self._report(update, order_id)
        if traded and is_forced(order_id):
            return StreamNews((self._recovered(update, order_id, at),), foreign=(report,))
        return StreamNews(foreign=(report,))

    def _own(self, update: _Update, order_id: str, at: int) -> OwnEvent:
        total = self._lots(update.z)
        if update.x in EXECUTIONS:
            return self._filled(update, order_id, at)
        match update.x:
            case "NEW":
                return OrderOpened(at, order_id, total)
            case "AMENDMENT" | "REPLACED":
                return self._amended(update, order_id, at)
            case "CANCELED" if not update.expiry():
                return OrderCancelled(at, order_id, total)
            case "CANCELED" | "EXPIRED":
                return OrderExpired(at, order_id, _reason(update), total)
            case "TRADE_PREVENTION" if STATUS.get(update.X) is Status.OPEN:
                # The taker's mode decides, and another program's may only take a part away.
                return self._amended(update, order_id, at)
            case "TRADE_PREVENTION":
                return OrderExpired(at, order_id, "self_trade", total)
            case "REJECTED" if isinstance(update, _SpotUpdate):
                return OrderRejected(at, order_id, REJECT.get(update.r, update.r.lower()))
        raise ValueError(f"{update.x!r} is nothing that happens to an order")

    def _amended(self, update: _Update, order_id: str, at: int) -> Amended:
        return Amended(
            at,
            order_id,
            tick=self._tick(update.p),
            lots=self._lots(update.q) - self._lots(update.prevented()),
            cumulative_lots=self._lots(update.z),
        )

    def _filled(self, update: _Update, order_id: str, at: int) -> Filled:
        fee, currency = _fee(update)
        return Filled(
            at,
            order_id,
            trade_id=_trade_id(update),
            side=side_of(update.S),
            tick=self._tick(update.L),
            lots=self._lots(update.l),
            maker=update.m,
            cumulative_lots=self._lots(update.z),
            fee=fee,
            fee_currency=currency,
        )

    def _recovered(self, update: _Update, order_id: str, at: int) -> FillRecovered:
        # The price at which a position is taken over need not be one of the book's.
        read = nearest_step if is_forced(order_id) else steps
        fee, currency = _fee(update)
        return FillRecovered(
            at,
            order_id,
            trade_id=_trade_id(update),
            side=side_of(update.S),
            tick=read(update.L, self.instrument.tick),
            lots=self._lots(update.l),
            maker=update.m,
            fee=fee,
            fee_currency=currency,
        )

    def _report(self, update: _Update, order_id: str) -> OrderReport:
        """An order that is not of this run."""
        read, lot = reading_of(order_id), self.instrument.lot
        lots, total = read(update.q, lot), read(update.z, lot)
        if update.X in TAKEOVER:
            status: Status | None = Status.FILLED if total >= lots > 0 else Status.OPEN
        else:
            status = STATUS.get(update.X)
        if status is None:
            raise ValueError(f"{update.X!r} is no status of an order")
        return OrderReport(
            order_id=order_id,
            venue_id=str(update.i),
            status=status,
            side=side_of(update.S),
            tick=read(update.p, self.instrument.tick),
            lots=lots,
            cumulative_lots=total,
            updated_at=update.T * NS_PER_MS,
        )

    def _account(self, account: _Account, at: int) -> StreamNews:
        if account.m != "FUNDING_FEE":
            return NOTHING
        # An isolated position is named, a cross position is not.
        if account.P and all(held.s != self.instrument.symbol for held in account.P):
            return NOTHING
        quote = self.instrument.quote
        paid = [decimal_of(change.bc) for change in account.B if change.a == quote]
        return StreamNews(events=(Funded(at, sum(paid, Decimal(0))),)) if paid else NOTHING

    def _tick(self, text: str) -> int:
        return steps(text, self.instrument.tick)

    def _lots(self, text: str) -> int:
        return steps(text, self.instrument.lot)


def _unwrapped(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The event itself: spot wraps it with a subscription, combined streams with a name."""
    for key in ("event", "data"):
        inner = message.get(key)
        if isinstance(inner, Mapping):
            return inner
    return message


def _reason(update: _Update) -> str:
    if update.X == "EXPIRED_IN_MATCH":
        return "self_trade"
    return update.expiry() or "expired"


def _trade_id(update: _Update) -> str:
    """Raises ValueError for an execution without one: it could not be told from another."""
    if update.t <= 0:
        raise ValueError(f"an execution of order {update.i} without a trade id")
    return str(update.t)


def _fee(update: _Update) -> tuple[Decimal | None, str]:
    if not update.N or update.n is None:
        return None, ""
    return decimal_of(update.n), update.N
