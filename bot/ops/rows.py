"""Facts of a run become rows of its database: orders, fills, equity and events.

Pure: the same facts, from a run under way or from its journal, give the same rows.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Final

import msgspec

from bot.core.orders import Order, OrderFault, OrderTable
from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Request, Resync, Trip
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Event,
    FeedEvent,
    Filled,
    FillRecovered,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.domain.view import View

SCHEMA_VERSION: Final = 1
ORDERS_MAX: Final = 8_192  # as many ended ones as the order table remembers

# Prices, quantities and money are exact decimals and hence text; times are ns since the
# epoch. Signals are floats in the model's units. STRICT refuses a value of another type.
SCHEMA: Final = """
CREATE TABLE orders (
    order_id TEXT PRIMARY KEY, side TEXT NOT NULL, price TEXT NOT NULL, qty TEXT NOT NULL,
    level INTEGER NOT NULL, state TEXT NOT NULL, filled_qty TEXT NOT NULL,
    placed_ns INTEGER NOT NULL, opened_ns INTEGER, cancel_sent_ns INTEGER, ended_ns INTEGER,
    reason TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE fills (
    at_ns INTEGER NOT NULL, order_id TEXT NOT NULL, trade_id TEXT NOT NULL, side TEXT NOT NULL,
    price TEXT NOT NULL, qty TEXT NOT NULL, maker INTEGER NOT NULL,
    fee TEXT, fee_currency TEXT,
    UNIQUE (order_id, trade_id, side)
) STRICT;
CREATE TABLE equity (
    at_ns INTEGER NOT NULL, level TEXT NOT NULL, trusted INTEGER NOT NULL,
    position TEXT NOT NULL, mid TEXT, fair REAL, half_spread REAL,
    total TEXT NOT NULL, spread TEXT NOT NULL, inventory TEXT NOT NULL,
    maker_fees TEXT NOT NULL, rebates TEXT NOT NULL, taker_fees TEXT NOT NULL,
    funding TEXT NOT NULL, unexplained TEXT NOT NULL,
    gamma_multiplier REAL, sigma_bp REAL, age_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE events (at_ns INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE INDEX fills_at ON fills (at_ns);
CREATE INDEX equity_at ON equity (at_ns);
CREATE INDEX events_at ON events (at_ns);
"""

ORDER: Final = """
INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id) DO UPDATE
SET price = excluded.price, qty = excluded.qty, level = excluded.level, state = excluded.state,
    filled_qty = excluded.filled_qty, opened_ns = excluded.opened_ns,
    cancel_sent_ns = excluded.cancel_sent_ns, ended_ns = excluded.ended_ns,
    reason = excluded.reason
"""
FILL: Final = "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
EQUITY: Final = """
INSERT INTO equity VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
EVENT: Final = "INSERT INTO events VALUES (?, ?, ?)"

Row = tuple[str, tuple[str | int | float | None, ...]]  # a statement above and its values


class Note(msgspec.Struct, frozen=True, gc=False):
    """Something to remember that no event or decision tells; `detail` is a JSON object."""

    kind: str
    detail: str


Fact = Event | FeedEvent | Sequence[Decision] | View | Note
Record = tuple[int, Fact]  # at, ns


def derive(instrument: Instrument, records: Iterable[Record]) -> Iterator[Row]:
    """The rows that `records`, in order, amount to. Pure: equal records give equal rows."""
    rows = Rows(instrument)
    for at, fact in records:
        yield from rows.of(at, fact)


class _Times:
    """What an order's row tells beyond the order table; ns, None is "not yet"."""

    __slots__ = ("cancel_sent", "ended", "opened", "placed", "reason")

    def __init__(self, now: int) -> None:
        self.placed = now
        self.opened: int | None = None
        self.cancel_sent: int | None = None
        self.ended: int | None = None
        self.reason: str | None = None


class Rows:
    """Turns facts into rows, with an order table of its own for those that speak of orders.

    What the table calls impossible has stopped the run; its order's row stays as it was.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._table = OrderTable(ORDERS_MAX)
        self._times: OrderedDict[str, _Times] = OrderedDict()

    def of(self, at: int, fact: Fact) -> Iterator[Row]:
        """The rows to write for one fact, in order."""
        match fact:
            case View():
                yield self._equity(fact)
            case Note():
                yield EVENT, (at, fact.kind, fact.detail)
            case Filled() | FillRecovered():
                yield self._fill(fact)
                if isinstance(fact, Filled):
                    yield from self._own(at, fact)
                else:
                    yield _event(at, fact)
            case OrderOpened() | OrderRejected() | OrderCancelled() | OrderExpired():
                yield from self._own(at, fact)
            case Amended() | AmendRejected() | CancelRejected() | OutcomeLost():
                yield from self._own(at, fact)
            case msgspec.Struct():  # an operator's word, the account's, or the feed's
                yield _event(at, fact)
            case _:
                for decision in fact:
                    yield from self._decision(at, decision)

    def _decision(self, now: int, decision: Decision) -> Iterator[Row]:
        match decision:
            case Place() | Amend() | Cancel():
                yield from self._sent(now, decision)
            case Trip() | Rearm() | Resync():
                yield _event(now, decision)

    def _sent(self, now: int, request: Request) -> Iterator[Row]:
        with suppress(OrderFault):
            if isinstance(request, Place):
                order = self._table.placed(request, now)
                self._times[order.order_id] = _Times(now)
                if len(self._times) > ORDERS_MAX:
                    self._times.popitem(last=False)
            elif isinstance(request, Amend):
                order = self._table.amend_sent(request, now)
            else:
                order = self._table.cancel_sent(request.order_id, now)
                if order.order_id in self._times:
                    self._times[order.order_id].cancel_sent = now
            yield from self._order(order)

    def _own(self, at: int, event: OwnEvent) -> Iterator[Row]:
        with suppress(OrderFault):
            order, lots = self._table.apply(event)
            times = self._times.get(event.order_id)
            if times is None or (isinstance(event, Filled) and lots == 0):
                return
            if isinstance(event, OrderOpened) and times.opened is None:
                times.opened = at
            elif isinstance(event, OrderRejected | OrderExpired | AmendRejected):
                times.reason = event.reason
            if times.ended is None and not order.working:
                times.ended = at
            yield from self._order(order)

    def _order(self, order: Order) -> Iterator[Row]:
        times = self._times.get(order.order_id)
        if times is None:
            return  # too long ago
        yield (
            ORDER,
            (
                order.order_id,
                _side(order.side),
                _text(self._instrument.price(order.tick)),
                _text(self._instrument.quantity(order.lots)),
                order.level,
                order.state.name,
                _text(self._instrument.quantity(order.filled_lots)),
                times.placed,
                times.opened,
                times.cancel_sent,
                times.ended,
                times.reason,
            ),
        )

    def _fill(self, fill: Filled | FillRecovered) -> Row:
        return FILL, (
            fill.at,
            fill.order_id,
            fill.trade_id,
            _side(fill.side),
            _text(self._instrument.price(fill.tick)),
            _text(self._instrument.quantity(fill.lots)),
            int(fill.maker),
            None if fill.fee is None else _text(fill.fee),
            fill.fee_currency or None,
        )

    def _equity(self, view: View) -> Row:
        tick = float(self._instrument.tick)
        mid = self._instrument.price(view.bid_tick + view.ask_tick) / 2
        pnl = view.pnl
        return EQUITY, (
            view.now,
            view.level,
            int(view.trusted),
            _text(self._instrument.quantity(view.position_lots)),
            _text(mid) if view.trusted else None,
            view.fair_ticks * tick if view.trusted else None,
            view.half_spread_ticks * tick,
            _text(pnl.total),
            _text(pnl.spread),
            _text(pnl.inventory),
            _text(pnl.maker_fees),
            _text(pnl.rebates),
            _text(pnl.taker_fees),
            _text(pnl.funding),
            _text(pnl.unexplained),
            view.gamma_multiplier,
            view.sigma_bp,
            view.age_ns,
        )


def _event(at: int, struct: msgspec.Struct) -> Row:
    detail = {f: getattr(struct, f) for f in struct.__struct_fields__ if f != "at"}
    return EVENT, (at, type(struct).__name__, to_json(detail))


def to_json(detail: Mapping[str, object]) -> str:
    """JSON with its keys in order: equal details are equal text. TypeError for what is none."""
    return msgspec.json.encode(detail, order="sorted").decode()


def _side(side: Side) -> str:
    return "BUY" if side > 0 else "SELL"


def _text(number: Decimal) -> str:
    """Exact, never with an exponent."""
    return format(number, "f")
