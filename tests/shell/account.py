"""A venue's account in virtual time, that lags, lies, fails and cuts its lists; and our side."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from bot.core.fillkeys import FillKey
from bot.core.orders import Order, OrderTable
from bot.domain.decisions import Place
from bot.domain.events import (
    Cleared,
    Event,
    Filled,
    FillRecovered,
    Obstructed,
    OrderCancelled,
    OrderOpened,
    OutcomeLost,
    PositionAdopted,
)
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.shell.reconcile import Reconciler
from bot.shell.statements import Statements
from bot.shell.takeover import Previous
from bot.shell.wire import CallFailed
from bot.venues.orderentry import (
    Call,
    Capabilities,
    Execution,
    Holdings,
    OrderReport,
    Priority,
    Refusal,
    Status,
    Verdict,
)

T0 = 1_700_000_000 * NS_PER_S
LOT = Decimal("0.001")
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.1"), LOT)
LOST = CallFailed(Refusal(Verdict.UNKNOWN, "timeout"))
ABSENT = CallFailed(Refusal(Verdict.ABSENT, "no_such_order"))
BAD_KEY = CallFailed(Refusal(Verdict.REJECTED, "bad_key", auth=True))


class Time:
    """A clock that only sleeping moves; what is planned happens on the way."""

    def __init__(self) -> None:
        self.at = T0
        self.plans: list[tuple[int, Callable[[], object]]] = []

    def now(self) -> int:
        return self.at

    def plan(self, after_s: float, what: Callable[[], object]) -> None:
        self.plans.append((self.at + round(after_s * NS_PER_S), what))

    async def sleep(self, seconds: float) -> None:
        end = self.at + round(seconds * NS_PER_S)
        while due := sorted((p for p in self.plans if p[0] <= end), key=lambda p: p[0]):
            plan = due[0]
            self.plans.remove(plan)
            self.at = max(self.at, plan[0])
            plan[1]()
        self.at = max(self.at, end)
        await asyncio.sleep(0)


class Venue:
    """Orders, executions and holdings as they are, and what questions about them get.

    `lag_s` says how old the lists are; `faults` maps a question to what its next askings get:
    an error to raise, a body instead, or None for the truth.
    """

    def __init__(self, time: Time) -> None:
        self.time = time
        self.orders: dict[str, OrderReport] = {}
        self.fills: list[Execution] = []
        self.position = Decimal(0)
        self.lag_s = 0.0
        self.capabilities = Capabilities("requeue", 5, True, 2_000, 1_000)
        self.unnamed = True  # executions carry the venue's own order ids only
        self.faults: dict[str, list[Any]] = {}
        self.asked: list[str] = []
        self.history: list[tuple[int, dict[str, OrderReport], Decimal, int]] = []
        self.keep()

    def cut(self, rows: int) -> None:
        """Histories come in pages of so many rows."""
        self.capabilities = replace(self.capabilities, page_max=rows)

    def keep(self) -> None:
        """Note how things stand now, for those who look with a lag."""
        self.history.append((self.time.at, dict(self.orders), self.position, len(self.fills)))

    def rest(self, order_id: str, side: Side = Side.BUY, tick: int = 100, lots: int = 5) -> None:
        venue_id = f"v{len(self.orders) + 1}"
        self.orders[order_id] = OrderReport(
            order_id, venue_id, Status.OPEN, side, tick, lots, 0, self.time.at
        )
        self.keep()

    def end(self, order_id: str, status: Status = Status.CANCELLED) -> None:
        if self.orders[order_id].status is Status.OPEN:
            self.orders[order_id] = replace(self.orders[order_id], status=status)
        self.keep()

    def fill(
        self, order_id: str, lots: int, fee: Decimal | None = None, currency: str = ""
    ) -> None:
        order = self.orders[order_id]
        traded = order.cumulative_lots + lots
        status = Status.FILLED if traded == order.lots else order.status
        self.orders[order_id] = replace(order, cumulative_lots=traded, status=status)
        number = f"t{len(self.fills) + 1}"
        self.fills.append(
            Execution(
                self.time.at, order_id, order.venue_id, number, order.side, order.tick, lots,
                True, fee, currency,
            )
        )  # fmt: skip
        self.position += order.side * lots * LOT
        if fee is not None and currency == "BTC":
            self.position -= fee
        self.keep()

    def seen(self) -> tuple[dict[str, OrderReport], Decimal, list[Execution]]:
        """What a look with this lag finds."""
        at = self.time.at - round(self.lag_s * NS_PER_S)
        _, orders, position, n = next(h for h in reversed([self.history[0], *self.history])
                                      if h[0] <= at or h is self.history[0])  # fmt: skip
        return orders, position, self.fills[:n]

    async def __call__(self, call: Call) -> Any:
        self.asked.append(call.method)
        await self.time.sleep(0.02)
        fault = (self.faults.get(call.method) or [None]).pop(0)
        if isinstance(fault, CallFailed):
            raise fault
        return getattr(self, f"_{call.method}")(call.params) if fault is None else fault

    def _open(self, params: dict[str, Any]) -> Any:
        orders, _, _ = self.seen()
        return [order for order in orders.values() if order.status is Status.OPEN]

    def _holdings(self, params: dict[str, Any]) -> Any:
        return Holdings(self.seen()[1], Decimal(1_000))

    def _order(self, params: dict[str, Any]) -> Any:
        if params["id"] not in self.orders:
            raise ABSENT
        return self.orders[params["id"]]

    def _fills(self, params: dict[str, Any]) -> Any:
        since = params.get("since", 0) * NS_PER_MS
        after = int(params.get("after", "t0")[1:])
        found = [one for one in self.seen()[2] if one.at >= since and int(one.trade_id[1:]) > after]
        found = found[: self.capabilities.page_max]
        return [replace(fill, order_id="") if self.unnamed else fill for fill in found]

    def _history(self, params: dict[str, Any]) -> Any:
        orders, _, _ = self.seen()
        since, after = params.get("since", 0) * NS_PER_MS, int(params.get("after", "v0")[1:])
        found = [one for one in orders.values() if one.updated_at >= since]
        found = [one for one in found if int(one.venue_id[1:]) > after]
        return found[: self.capabilities.page_max]

    # --- the codec: a body is already what it means

    def _call(self, method: str, **params: Any) -> Call:
        return Call(method, params, Priority.RECONCILE)

    def open_orders(self) -> Call:
        return self._call("open")

    def holdings(self) -> Call:
        return self._call("holdings")

    def order(self, order_id: str) -> Call:
        return self._call("order", id=order_id)

    def executions(self, since_ms: int) -> Call:
        return self._call("fills", since=since_ms)

    def executions_after(self, trade_id: str) -> Call:
        return self._call("fills", after=trade_id)

    def orders_since(self, since_ms: int) -> Call:
        return self._call("history", since=since_ms)

    def orders_after(self, venue_id: str) -> Call:
        return self._call("history", after=venue_id)

    def _read(self, body: Any) -> Any:
        if body == "garbage":
            raise ValueError("no JSON that we know")
        return body

    read_orders = read_order = read_holdings = read_executions = _read


class Bot:
    """The engine's side: orders, position, and what it was told; and a gateway."""

    def __init__(self, time: Time, venue: Venue) -> None:
        self.time = time
        self.venue = venue
        self.orders = OrderTable()
        self.told: list[Event] = []
        self.position_lots = 0
        self.base_fees = Decimal(0)
        self.filled_at = 0
        self.tick2 = 200
        self.keys: set[FillKey] = set()
        self.obstructed = False
        self.touched: dict[str, int] = {}
        self.active_at = 0
        self.in_flight = 0
        self.doubted: list[str] = []
        self.cancelled: list[str] = []
        self.withdraws = True  # every order, at an obstacle
        self.heals = True  # doubts are answered, strays really cancelled

    # --- acting

    def touch(self, order_id: str) -> None:
        self.touched[order_id] = self.active_at = self.time.at

    def place(self, order_id: str, lots: int = 5, at_venue: bool = True) -> None:
        """An order that rests on both sides."""
        self.orders.placed(Place(order_id, Side.BUY, 100, lots, 0), self.time.at)
        self.touch(order_id)
        if at_venue:
            self.venue.rest(order_id, lots=lots)
        self.put(OrderOpened(self.time.at, order_id))

    # --- learning

    def put(self, event: Event) -> None:
        """As through the inbox: a little later."""
        self.told.append(event)
        self.time.plan(0.001, lambda: self.apply(event))

    def apply(self, event: Event) -> None:
        match event:
            case Obstructed():
                self.obstructed = True
                for order in self.working() if self.withdraws else ():
                    self.venue.end(order.order_id) if order.order_id in self.venue.orders else None
                    self.doubt(order.order_id)
            case Cleared():
                self.obstructed = False
            case PositionAdopted():
                self.position_lots = event.lots
            case FillRecovered():
                self._count(event)
            case Filled():
                self.touch(event.order_id)
                if self.orders.apply(event)[1]:
                    self._count(event)
            case _:
                self.touch(event.order_id)
                self.orders.apply(event)

    def _count(self, fill: Filled | FillRecovered) -> None:
        key = (fill.order_id, fill.trade_id, fill.side)
        assert key not in self.keys
        self.keys.add(key)
        self.position_lots += fill.side * fill.lots
        self.filled_at = self.time.at
        if fill.fee is not None and fill.fee_currency == "BTC":
            self.base_fees += fill.fee

    # --- Beliefs

    def working(self) -> Sequence[Order]:
        return [*self.orders.working(Side.BUY), *self.orders.working(Side.SELL)]

    def owed(self) -> Sequence[str]:
        return ()

    def knows_order(self, order_id: str) -> bool:
        return order_id.startswith("mm-run")

    def knows_fill(self, key: FillKey) -> bool:
        return key in self.keys

    # --- Gateway

    def touched_at(self, order_id: str) -> int:
        return self.touched.get(order_id, 0)

    def doubt(self, order_id: str) -> None:
        self.doubted.append(order_id)
        self.put(OutcomeLost(self.time.at, order_id))
        if self.heals:
            self.time.plan(0.3, lambda: self._resolve(order_id))

    def _resolve(self, order_id: str) -> None:
        truth = self.venue.orders.get(order_id)
        for fill in self.venue.fills:
            if fill.order_id == order_id and not self.knows_fill(
                (order_id, fill.trade_id, fill.side)
            ):
                self.apply(
                    Filled(
                        self.time.at, order_id, fill.trade_id, fill.side, fill.tick, fill.lots, True
                    )
                )
        if truth is None or truth.status in (Status.CANCELLED, Status.EXPIRED):
            self.apply(OrderCancelled(self.time.at, order_id))
        elif truth.status is Status.OPEN:
            self.apply(OrderOpened(self.time.at, order_id))

    def cancel_stray(self, order_id: str) -> None:
        self.cancelled.append(order_id)
        if self.heals:
            self.time.plan(0.2, lambda: self.venue.end(order_id))


class Log:
    """Keeps what was logged, as (level, event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append((level, event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for _, name, fields in self.lines if name == event]


class World:
    """A venue, our side and a reconciler between them."""

    def __init__(self, spot: bool = False, neutral: Decimal | None = None) -> None:
        self.time = Time()
        self.venue = Venue(self.time)
        self.bot = Bot(self.time, self.venue)
        self.log = Log()
        self.statements = statements(self.venue)
        self.reconciler = Reconciler(
            self.statements, self.bot, self.bot, USDM, self.time, self.bot.put, self.log,
            spot=spot, neutral=neutral, is_own=own, is_of_run=lambda i: i.startswith("mm-run"),
            sleep=self.time.sleep,
        )  # type: ignore[arg-type]  # fmt: skip

    async def run(self, seconds: float) -> None:
        """Let the reconciler run for so long."""
        task = asyncio.create_task(self.reconciler.run())
        self.time.plan(seconds, task.cancel)
        with suppress(asyncio.CancelledError):
            await task
        await self.time.sleep(0.01)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.bot.told]


def own(order_id: str) -> bool:
    return order_id.startswith("mm-")


def statements(venue: Venue) -> Statements:
    return Statements(venue, venue, own)  # type: ignore[arg-type]


def previous(**changes: Any) -> Previous:
    return replace(Previous("run-1", Decimal(0), None, {}, T0 - 60 * NS_PER_S), **changes)
