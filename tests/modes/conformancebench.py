"""Where the conformance cards are played: the real gateway, and a venue whose market stands still.

Everything between is real (ccxt, signatures, sockets, both sides' parsing). In the market nothing
happens but what a card does, and time passes when a card says so: both sides read one clock
that can be put forward, so that no card waits for a countdown or a window.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any, Final

from bot.core.orders import Order, OrderState, OrderTable
from bot.domain.account import AccountOrder, InForce, Kind, NewOrder, SelfTrade
from bot.domain.decisions import Amend, Cancel, Place, Request
from bot.domain.events import Filled, FillRecovered
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S, Side
from bot.modes.execution import budget_of
from bot.modes.serve import API_KEY, API_SECRET, new_client
from bot.shell.clock import Clock
from bot.shell.gateway import Gateway
from bot.shell.inbox import Inbox
from bot.shell.outbox import Outbox, Tasks
from bot.shell.peer import Access, Credentials
from bot.shell.privatestream import PrivateStream
from bot.shell.statements import Statements
from bot.shell.venueserver import VenueServer
from bot.shell.wire import CallFailed, Wire
from bot.sim.account import Account
from bot.sim.exchange import FLOW, Exchange
from bot.venues.binance.ids import is_own
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Refusal
from tests.shell.wire import PATIENCE_S, eventually

S = OrderState
PREFIX: Final = "mm0a1b2c"
TIMEOUT_MS: Final = 3_000
QUOTE: Final = Decimal(100_000)
BASE: Final = Decimal(4)
LEVELS: Final = 20
# The best bid is a tick below, the best ask a tick above; and a size of about sixty dollars or
# more, so that a third of it still is an order.
MIDDLE: Final = {"binance-usdm": 600_000, "binance-spot": 6_000_000}
UNIT: Final = {"binance-usdm": 30, "binance-spot": 300}
INSTRUMENTS: Final = {
    "binance-usdm": Instrument(
        "binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"), 1, Decimal(100)
    ),
    "binance-spot": Instrument(
        "binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), 1, Decimal(5)
    ),
}  # fmt: skip


class Forward(Clock):
    """A clock that can be put forward; `ahead` ns before the one that it is made from."""

    def __init__(self, base: "Forward | None" = None) -> None:
        super().__init__()
        self._base = base
        self.ahead = 0

    def now(self) -> int:
        return (super().now() if self._base is None else self._base.now()) + self.ahead

    def skip(self, seconds: float) -> None:
        """Let time pass at once."""
        self.ahead += round(seconds * NS_PER_S)


class StillFlow:
    """Nobody trades."""

    def advance(self, now: int) -> None:
        """Nothing happens."""

    def feed_stalled(self, now: int) -> bool:
        return False


class StillMarket:
    """A book of strangers' orders, `LEVELS` deep on both sides, that only the cards move."""

    def __init__(self, middle: int, lots: int) -> None:
        self.exchange = Exchange()
        self.flow = StillFlow()
        for i in range(1, LEVELS + 1):
            for side in Side:
                self.exchange.place(0, FLOW, side, middle - side * i, lots)
        self.exchange.drain()


class Bench:
    """A gateway with its table on one side, the venue's own books on the other.

    `ours` is the clock of our side, `time` the venue's: they agree until a card moves one.
    """

    def __init__(self, venue: str, time: Forward, server: VenueServer) -> None:
        self.venue = venue
        self.instrument = INSTRUMENTS[venue]
        self.spot = venue == "binance-spot"
        self.root = "/api/v3" if self.spot else "/fapi/v1"
        self.middle, self.unit = MIDDLE[venue], UNIT[venue]
        self.time, self.ours = time, Forward(time)
        self.server = server
        self.faults = server.misbehave
        self.seat = server.desk.seats[0]
        account = self.seat.account
        assert isinstance(account, Account)
        self.account = account
        self.exchange = account.exchange
        self.began_ms = self.ours.now() // 1_000_000
        self.codec = order_codec(self.instrument, PREFIX)
        self.budget = budget_of(venue)
        self.weights: list[int] = []  # as the venue's headers tell
        self.calls: list[str] = []  # that left, by name
        self.events: list[Any] = []
        self.unasked: list[str] = []
        self.unheard: list[str] = []
        self.clock_wrong = 0
        self.opened = 0  # times that the private stream was caught up with
        self.broken: list[Exception] = []
        self.table = OrderTable()
        self.position = 0  # lots, by the fills that were learned
        self.tasks = Tasks(self.broken.append)
        self.inbox = Inbox(self.ours, frames_max=10, bytes_max=10)
        self.wire = Wire(
            self._access(), self.codec, self.ours, timeout_ms=TIMEOUT_MS, used=self._used,
            sent=lambda method, at: self.calls.append(method),
        )  # fmt: skip
        self.gateway = Gateway(
            self.wire,
            self.codec,
            self.table,
            self.inbox,
            self.ours,
            Outbox(self.budget, self.ours, self.tasks),
            self.tasks,
            unheard=self.unheard.append,
            unasked=self.unasked.append,
            clock_wrong=self._wrong,
            silence=self.budget.silence,
        )
        self.statements = Statements(self.gateway.ask, self.codec, is_own)
        self.stream = PrivateStream(
            self.wire, self.gateway.heard, self._caught_up, self.inbox, self.ours, self.tasks,
            lambda job: job(),
        )  # fmt: skip
        self._n = 0

    def _access(self) -> Access:
        where = f"127.0.0.1:{self.server.port}"
        keys = Credentials(API_KEY, API_SECRET)
        return Access(self.venue, "demo", (where,), keys, f"http://{where}")

    def _used(self, weight: int) -> None:
        self.weights.append(weight)
        self.budget.told(weight, self.ours.now())

    def _wrong(self) -> None:
        self.clock_wrong += 1

    # --- what runs beside a card --------------------------------------------------------------

    async def learn(self) -> None:
        """Apply what the gateway tells, as an engine does."""
        while True:
            await self.inbox.wait(None)
            for event in self.inbox.drain(1_000):
                self.events.append(event)
                if isinstance(event, FillRecovered):
                    self.position += event.side * event.lots
                elif self.table.knows(getattr(event, "order_id", "")):
                    order, lots = self.table.apply(event)  # type: ignore[arg-type]
                    self.position += order.side * lots

    async def _caught_up(self) -> None:
        """The stream speaks: pull what it may not have said."""
        for order_id in [o.order_id for side in Side for o in self.table.working(side)]:
            if self.opened:
                self.gateway.doubt(order_id)
        self.opened += 1

    # --- what a card does on our side ----------------------------------------------------------

    def new_id(self) -> str:
        self._n += 1
        return f"{PREFIX}-{self._n}"

    def perform(self, *requests: Request) -> None:
        """Hand decisions over, as the pump does."""
        now = self.ours.now()
        for request in requests:
            match request:
                case Place():
                    self.table.placed(request, now)
                case Amend():
                    self.table.amend_sent(request, now)
                case Cancel():
                    self.table.cancel_sent(request.order_id, now)
        self.gateway.perform(now, requests)

    def send(self, side: Side = Side.BUY, behind: int = 0, lots: int = 0) -> str:
        """Decide one order, `behind` ticks behind the best possible; its id."""
        place = Place(self.new_id(), side, self.tick(side, behind), lots or self.unit, 0)
        self.perform(place)
        return place.order_id

    async def rest(self, side: Side = Side.BUY, behind: int = 0, lots: int = 0) -> str:
        """As `send`, and wait until both sides know that it rests."""
        order_id = self.send(side, behind, lots)
        await self.until(order_id, S.LIVE)
        assert self.own(order_id) is not None
        return order_id

    def cancel(self, order_id: str) -> None:
        self.perform(Cancel(order_id))

    def amend(self, order_id: str, *, tick: int = 0, lots: int = 0) -> None:
        order = self.order(order_id)
        amend = Amend(order_id, order.side, tick or order.tick, lots or order.lots, 0)
        self.perform(amend)

    def tick(self, side: Side, behind: int = 0) -> int:
        """0 behind is one's own level inside the spread; 1 is the touch of the strangers."""
        return self.middle - side * behind

    async def refused(self, call: Call) -> Refusal:
        """What the venue says no with."""
        try:
            body = await self.wire.call(call)
        except CallFailed as failed:
            return failed.refusal
        raise AssertionError(f"{call.method} was not refused: {body}")

    # --- what a card looks at -----------------------------------------------------------------

    def order(self, order_id: str) -> Order:
        return self.table.find(order_id)

    async def until(self, order_id: str, *states: OrderState) -> Order:
        """Wait until our side believes an order to be in one of these states."""
        try:
            await eventually(lambda: self.order(order_id).state in states)
        except TimeoutError:
            told = [one for one in self.events if getattr(one, "order_id", "") == order_id]
            raise AssertionError(f"{self.order(order_id)} is none of {states}: {told}") from None
        return self.order(order_id)

    async def quiet(self) -> None:
        """Wait until nothing is asked any more and no order is in between."""
        between = (S.PENDING_NEW, S.PENDING_AMEND, S.PENDING_CANCEL, S.UNKNOWN)
        await eventually(
            lambda: (
                not self.gateway.in_flight
                and not self.table.owed()
                and not any(o.state in between for side in Side for o in self.table.working(side))
            )
        )

    def told(self, kind: type, order_id: str) -> list[Any]:
        """The events of one kind about one order."""
        return [e for e in self.events if isinstance(e, kind) and e.order_id == order_id]

    def fills(self, order_id: str) -> list[Filled]:
        """Its fills, each once."""
        return list({fill.trade_id: fill for fill in self.told(Filled, order_id)}.values())

    def own(self, order_id: str) -> AccountOrder | None:
        """The order in the venue's books."""
        return self.account.find(None, order_id)

    def open(self) -> list[str]:
        """Client ids of what rests at the venue."""
        return [order.client_id for order in self.account.open_orders()]

    # --- what a card does on the venue's side ---------------------------------------------------

    def hit(self, side: Side, lots: int) -> None:
        """A stranger trades with whoever is best on `side`."""
        best = self.exchange.best(side)
        assert best is not None
        now = self.server.virtual(self.time.now())
        done = self.exchange.place(now, FLOW, Side(-side), best[0], lots, ioc=True)
        assert done.filled == lots, done

    def join(self, side: Side, tick: int, lots: int) -> int:
        """A stranger queues up at a price; his order's id."""
        now = self.server.virtual(self.time.now())
        return self.exchange.place(now, FLOW, side, tick, lots).order_id

    def line(self, side: Side, tick: int) -> list[str]:
        """Who stands at a price, first in line first: client ids, empty for strangers."""
        return [order.client_id for order in self.exchange.queue(side, tick)]

    def by_hand(self, order_id: str, side: Side, behind: int, **options: Any) -> AccountOrder:
        """Somebody else places an order on our account."""
        wanted = NewOrder(
            side, self.tick(side, behind), self.unit, order_id,
            **{"kind": Kind.LIMIT, "in_force": InForce.GTC, "self_trade": SelfTrade.EXPIRE_MAKER}
            | options,
        )  # fmt: skip
        done = self.account.place(self.server.virtual(self.time.now()), wanted)
        assert isinstance(done, AccountOrder), done
        return done

    def settled(self) -> None:
        """What must be true after every card: no ghost, no order twice, position as told."""
        believed = {o.order_id for side in Side for o in self.table.working(side)}
        ours = [order_id for order_id in self.open() if is_own(order_id)]
        assert set(ours) <= believed
        assert len(set(ours)) == len(ours)
        placed = [order.client_id for order in self.account.orders() if is_own(order.client_id)]
        assert len(set(placed)) == len(placed), "an order was sent twice"
        assert self.broken == []


@asynccontextmanager
async def bench_of(venue: str) -> AsyncIterator[Bench]:
    """A venue, a gateway and an open private stream; nothing is left of them afterwards."""
    time = Forward()
    instrument = INSTRUMENTS[venue]
    market = StillMarket(MIDDLE[venue], UNIT[venue])
    deposits = {"USDT": QUOTE} | ({"BTC": BASE} if venue == "binance-spot" else {})
    client = new_client(market, instrument, time.now(), deposits=deposits)  # type: ignore[arg-type]
    server = VenueServer(market, instrument, time.now, clients=[client])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(3 * PATIENCE_S))
        await stack.enter_async_context(server)
        bench = Bench(venue, time, server)
        stack.push_async_callback(bench.wire.close)
        stack.push_async_callback(bench.tasks.close)
        jobs = [bench.learn(), bench.gateway.run(), bench.stream.run()]
        running = [asyncio.create_task(job) for job in jobs]
        stack.push_async_callback(_ended, running)
        await eventually(lambda: bench.opened)
        yield bench
        bench.settled()


async def _ended(running: Sequence[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    done = await asyncio.gather(*running, return_exceptions=True)
    failed = [one for one in done if not isinstance(one, asyncio.CancelledError)]
    assert failed == [], failed
