"""A simulated exchange on which nothing happens by itself, with handles on its inside.

What trades there, what its user is told and what its requests are answered is the test's to say,
so that a test is about its fault alone.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from bot.domain.account import AccountOrder
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, Side
from bot.modes.serve import new_client
from bot.modes.settings import Loaded
from bot.shell.clock import Clock
from bot.shell.misbehaviour import Misbehaviour
from bot.shell.venueserver import VenueServer
from bot.sim.exchange import FLOW, Exchange
from bot.venues.binance.reply import Reply, Request

PULSE_NS: Final = 50 * NS_PER_MS  # between two changes far from the touch
PRICE: Final = 60_000
LEVELS: Final = 40
# Of a price: the touch lies inside of the quotes, and depth reaches beyond risk.depth_bps.
TOUCH_BP: Final = 0.06
DEPTH_BP: Final = 14.0


class QuietMarket:
    """A deep book that stays as it is, around PRICE; `fill` trades with one client's orders.

    `shift` moves it as a whole. Nothing of it ever trades with an order of the client by itself.
    """

    def __init__(self, instrument: Instrument, start: int, owner: int = 1) -> None:
        self.exchange = Exchange()
        self.flow = self
        self.owner = owner
        self.now = start
        self.looks: list[Callable[[], None]] = []  # called whenever time passes
        self._lots = round(1 / instrument.lot)
        self._pulse_at = start
        self._pulse_order = 0
        self._orders: dict[tuple[Side, int], int] = {}  # by side and tick
        self.middle = round(PRICE / instrument.tick)
        self._touch = round(self.middle * TOUCH_BP * 1e-4)
        self._spacing = round(self.middle * DEPTH_BP * 1e-4 / LEVELS)
        self._far = self.middle - 10 * LEVELS * self._spacing
        self._mend()
        self.exchange.drain()  # the book that the market opens with is no news

    def _mend(self) -> None:
        """Place what is missing, except where a client's order is in the way."""
        for side in Side:
            for n in range(LEVELS):
                tick = self.middle - side * (self._touch + n * self._spacing)
                order = self.exchange.order(self._orders.get((side, tick), 0))
                if order is None:
                    lots = self._lots if n else self._lots // 100
                    placed = self.exchange.place(self.now, FLOW, side, tick, lots, post_only=True)
                    self._orders[side, tick] = placed.order_id

    def shift(self, ticks: int) -> None:
        """Everything but the client's orders stands so much higher from now on."""
        for order_id in self._orders.values():
            self.exchange.cancel(self.now, order_id)
        self._orders.clear()
        self.middle += ticks
        self._mend()

    def advance(self, now: int) -> None:
        """Change one level, far from where anybody trades: a feed is never silent for long."""
        self.now = max(self.now, now)
        for look in self.looks:
            look()
        if now < self._pulse_at:
            return
        self._pulse_at = now + PULSE_NS
        self._mend()
        if self._pulse_order:
            self.exchange.cancel(now, self._pulse_order)
            self._pulse_order = 0
        else:
            self._pulse_order = self.exchange.place(now, FLOW, Side.BUY, self._far, 1).order_id

    def feed_stalled(self, now: int) -> bool:
        return False

    def fill(self, side: Side, lots: int, trade_id: int = 0) -> None:
        """Trade `lots` with the client's innermost orders of `side`; the rest of the book stays.

        What stood before them trades too, and stands there again afterwards. `trade_id` gives
        the trade an id that may have been given before; then one order must suffice.
        """
        left = lots
        while left:
            own = [order for order in self.exchange.orders_of(self.owner) if order.side is side]
            assert own, f"no order of the client's rests on {side.name}"
            best = max(own, key=lambda order: side * order.tick)
            taken = min(left, best.left)
            assert taken == lots or not trade_id, f"more than one trade: {lots} of {best}"
            self._take(side, best.tick, best.order_id, taken, trade_id)
            left -= taken

    def _take(self, side: Side, tick: int, order_id: int, lots: int, trade_id: int) -> None:
        ahead = 0
        for level, _ in self.exchange.levels(side):
            if side * level < side * tick:
                break
            for order in self.exchange.queue(side, level):
                if order.order_id == order_id:
                    break
                ahead += order.left
        other = Side(-side)
        if ahead:
            self.exchange.place(self.now, FLOW, other, tick, ahead, ioc=True)
        latest = self.exchange.trade_id
        if trade_id:
            self.exchange.trade_id = trade_id - 1
        self.exchange.place(self.now, FLOW, other, tick, lots, ioc=True)
        self.exchange.trade_id = max(self.exchange.trade_id, latest)
        self._mend()


class Seen(NamedTuple):
    """A request that reached the venue's door; `at` is in ns."""

    at: int
    method: str
    path: str


Answer = Callable[[Request], Reply | None]
Pass = Callable[[bytes], bool]


class Venue:
    """A quiet market behind sockets, with one client's account; and hands on its inside.

    `clock` is the venue's, `step_ns` how far it was set apart from the machine's.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.step_ns = 0
        self._clock = Clock()
        instrument, start = loaded.instrument, self.clock()
        self.market = QuietMarket(instrument, start)
        client = new_client(self.market, instrument, start, fees=loaded.fees)  # type: ignore[arg-type]
        self.account = client.account
        self.server = VenueServer(
            self.market, instrument, self.clock, start=start, clients=[client]
        )
        self.faults: Misbehaviour = self.server.misbehave
        self.requests: list[Seen] = []
        self.told: list[tuple[str, bytes]] = []  # every event of the user, as it was meant
        self._passes: Pass = lambda raw: True
        self._answers: Answer = lambda request: None
        self._wrap()

    def _wrap(self) -> None:
        server, events = self.server, self.server.misbehave.events
        respond, answer, publish = server.misbehave.respond, server.answer, events.publish

        async def noted(request: Any, venue: Any) -> Any:
            self.requests.append(Seen(self._clock.now(), request.method, request.path))
            return await respond(request, venue)

        def answered(request: Request, arrived: int) -> Reply:
            return self._answers(request) or answer(request, arrived)

        def published(key: str, raw: bytes) -> None:
            self.told.append((key, raw))
            if self._passes(raw):
                publish(key, raw)

        for owner, name, job in (
            (server.misbehave, "respond", noted),
            (server, "answer", answered),
            (events, "publish", published),
        ):
            setattr(owner, name, job)
        self.repeat = publish

    def clock(self) -> int:
        return self._clock.now() + self.step_ns

    def fill(self, side: Side, lots: int) -> None:
        """Somebody trades with the bot's orders of `side`."""
        self.market.fill(side, lots)

    def resting(self, side: Side) -> list[AccountOrder]:
        """The client's open orders of a side, innermost first."""
        own = [order for order in self.account.open_orders() if order.wanted.side is side]
        return sorted(own, key=lambda order: -side * order.tick)

    def mute(self, *words: bytes) -> None:
        """Lose the user's events that have one of these in them; none: lose no more."""
        self._passes = lambda raw: not any(word in raw for word in words)

    def answering(self, answer: Answer | None) -> None:
        """Let `answer` speak instead of the venue, unless it says None."""
        self._answers = answer or (lambda request: None)

    def asked(self, method: str, path: str, since: int = 0) -> list[Seen]:
        """Requests whose path ends so, from a time on."""
        return [
            one
            for one in self.requests
            if one.at >= since and one.method == method and one.path.endswith(path)
        ]

    def order(self, client_id: str) -> AccountOrder | None:
        """An order of the client's, however it ended."""
        return self.account.find(None, client_id)


@asynccontextmanager
async def quiet_venue(loaded: Loaded) -> AsyncIterator[Venue]:
    """A venue on which a configuration can run."""
    venue = Venue(loaded)
    async with venue.server:
        yield venue
