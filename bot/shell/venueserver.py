"""The simulated exchange behind real sockets, speaking Binance's protocol.

Every few milliseconds the market is advanced to the virtual time of the moment, what
happened is taken from it, and what somebody is subscribed to is written: trades and best
prices at once, depth gathered per stream and speed. A request advances the market first, and
what it did is written before it is answered. Written times are wall-clock ms.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from aiohttp import web

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.shell.misbehaviour import Listed, Misbehaviour
from bot.shell.remoteswitch import asks_switch, obey
from bot.shell.venuesockets import Motion, Pulse, SocketStats, VenueSockets
from bot.sim.account import Account
from bot.sim.events import LevelSet, Printed, Private, Public
from bot.venues.binance.board import Board
from bot.venues.binance.desk import Desk
from bot.venues.binance.publicapi import Funding, PublicApi, unknown_path
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.reply import Refused, Reply, Request
from bot.venues.binance.seat import Seat
from bot.venues.binance.streams import Session, Stream, session_of, stream_of
from bot.venues.binance.tally import Aggregate, Tally, Trade
from bot.venues.binance.wsapi import WsApiSession

STEP_S: Final = 0.005
BEHIND_NS_MAX: Final = NS_PER_S  # a longer pause of the machine is no time of the market
RESTART_FIRST_ID: Final = 1

# "The websocket server will send a ping frame every 20 seconds" (spot; a pong within a
# minute), "every 3 minutes" (USD-M; within 10 minutes); 5 and 10 messages a second inbound.
PULSES: Final = {
    "binance-spot": Pulse(20 * NS_PER_S, 60 * NS_PER_S, 5),
    "binance-usdm": Pulse(180 * NS_PER_S, 600 * NS_PER_S, 10),
}


class Exchange(Protocol):
    """The order book of the market; what happened in it is drained in order."""

    @property
    def update_id(self) -> int: ...
    def levels(self, side: Side, limit: int) -> Sequence[tuple[int, int]]: ...
    def drain(self) -> Sequence[Public | Private]: ...


class Flow(Protocol):
    """Who trades in it; times are virtual ns."""

    def advance(self, now: int) -> None: ...
    def feed_stalled(self, now: int) -> bool: ...


class Market(Protocol):
    """What the server shows to the world."""

    @property
    def exchange(self) -> Exchange: ...
    @property
    def flow(self) -> Flow: ...


class Client(NamedTuple):
    """Who trades on the market: his keys and his account."""

    key: str
    secret: str
    account: Account


class ServerStats(NamedTuple):
    """What the server did so far."""

    steps: int
    trades: int
    depth_updates: int
    book_tickers: int
    held_back: int  # messages lost to a stalled feed
    swallowed: int
    behind_ns: int  # time taken out of the market because the machine paused
    sockets: SocketStats


class VenueServer:
    """One symbol's market on one port; an async context manager.

    `speed` is virtual time per wall time, `clock` the wall clock in ns, `start` the market's
    virtual time at the beginning (the wall clock's where not given). `clients` trade on the
    market's own exchange. Misbehaviour is switched on `misbehave`, and from outside the process
    if `switchable`. Raises ValueError for a venue without a protocol here.
    """

    def __init__(
        self,
        market: Market,
        instrument: Instrument,
        clock: Callable[[], int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        start: int | None = None,
        pulse: Pulse | None = None,
        queued_max: int | None = None,
        clients: Sequence[Client] = (),
        switchable: bool = False,
    ) -> None:
        assert speed > 0
        self.market = market
        self.instrument = instrument
        self._clock = clock
        self._speed = speed
        self._text = PublicText(instrument)
        limits: dict[str, Any] = {} if queued_max is None else {"queued_max": queued_max}
        self.sockets = VenueSockets(
            session_of=self._session_of,
            respond=self._respond,
            pulse=pulse or PULSES[instrument.venue],
            clock=clock,
            host=host,
            port=port,
            admit=self._admit,
            **limits,
        )
        self._began = self._last = clock()
        self._start = self._began if start is None else start
        self._tally = Tally(self._began // NS_PER_MS)
        api = PublicApi(self._text, self._tally, self._shown, self._funding)
        seats = [Seat(instrument.venue, key, secret, account) for key, secret, account in clients]
        self._clients = list(clients)
        for client in clients:
            client.account.stamp = self._stamp
        self.desk = Desk(api, seats, self._wall_ms)
        self._switchable = switchable
        lists = {Listed(*one): partial(self._show, *one) for one in self.desk.lists()}
        self.misbehave = Misbehaviour(clock, self.sockets, lists)
        self._board = Board(self._text)
        self._planned = -1
        self._id_shift = 0
        self._motion = Motion()
        self._swallow = 0
        self._steps = self._trades = self._depth_updates = self._book_tickers = 0
        self._held_back = self._swallowed = self._behind = 0

    @property
    def port(self) -> int:
        """The port that is listened to."""
        return self.sockets.port

    async def start(self) -> None:
        """Listen and let the market run. Raises OSError when the port cannot be had."""
        await self.sockets.start()
        self._began = self._last = self._clock()
        self._motion.begin(self._drive())

    async def close(self) -> None:
        """Stop the market, close every socket. Raises what the market raised, if it did."""
        error = await self._motion.end()
        await self.misbehave.close()
        await self.sockets.close()
        if error is not None:
            raise error

    async def wait(self) -> None:
        """Return once the server was closed; raises what the market raised, if it broke."""
        await self._motion.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _drive(self) -> None:
        while True:
            self.step(self._clock())
            await asyncio.sleep(STEP_S)

    def virtual(self, wall: int) -> int:
        """The market's time at a wall-clock time."""
        return self._start + round((wall - self._began - self._behind) * self._speed)

    def _advance(self, wall: int) -> int:
        """Bring the market to a wall-clock time; returns the market's time."""
        behind = wall - self._last - BEHIND_NS_MAX
        if behind > 0:
            self._behind += behind
        self._last = max(self._last, wall)
        now = self.virtual(self._last)
        self.market.flow.advance(now)
        self.desk.tend(now, self._last // NS_PER_MS)
        return now

    def step(self, wall: int) -> None:
        """Bring the market to a wall-clock time and write what happened."""
        now = self._advance(wall)
        if self._planned != self.sockets.changed:
            self._planned = self.sockets.changed
            streams = map(self._stream_of, self.sockets.streams())
            self._board.plan([s for s in streams if s is not None], now)
        stalled = self.market.flow.feed_stalled(now)
        self._take(wall, stalled)
        for stream, raw in self._board.due(now, wall // NS_PER_MS, self._tally, self._shown):
            if stream.kind == "depth" and self._swallow > 0:
                self._swallow -= 1
                self._swallowed += 1
                continue
            self._depth_updates += stream.kind == "depth"
            self._book_tickers += stream.kind == "bookTicker"
            self._publish(stream, raw, stalled)
        self.misbehave.tend(wall)
        self.sockets.tend(wall)
        self._steps += 1

    def _take(self, wall: int, stalled: bool) -> None:
        """Take what happened from the exchange, and write the trades."""
        for event in self.market.exchange.drain():
            if isinstance(event, LevelSet):
                self._board.change(event.update_id - self._id_shift, event)
            elif isinstance(event, Printed):
                self._trades += 1
                self._traded(event, wall, stalled)
        self._aggregated(self._tally.end_aggregate(), wall, stalled)
        for name, raw in self.desk.events(wall // NS_PER_MS):
            self.publish_user(name, raw)

    def publish_user(self, name: str, raw: bytes) -> None:
        """Send a client one of his own events; `name` is that of his stream."""
        self.misbehave.events.publish(name, raw)

    def _stamp(self, at: int) -> int:
        """The wall-clock ms of a time of the market that is not long ago."""
        late = round((self.virtual(self._last) - at) / self._speed)
        return (self._last - max(late, 0)) // NS_PER_MS

    def _funding(self) -> Funding | None:
        """What the first client's account will settle next; all have the same."""
        if not self._clients:
            return None
        account = self._clients[0].account
        left = (account.next_funding - self.virtual(self._last)) / self._speed
        return Funding(account.funding_rate, (self._last + round(left)) // NS_PER_MS)

    def _traded(self, event: Printed, wall: int, stalled: bool) -> None:
        """Write a trade, dated by the wall-clock ms at which its virtual time was reached."""
        late = round((self.virtual(wall) - event.at) / self._speed)
        at = (wall - max(late, 0)) // NS_PER_MS
        trade = Trade(at, event.trade_id, event.tick, event.lots, event.aggressor)
        for stream in self._board.of_kind("trade"):
            raw = self._text.trade(
                wall // NS_PER_MS, at, event.trade_id, event.tick, event.lots, event.aggressor
            )
            self._publish(stream, raw, stalled)
        self._aggregated(self._tally.add(trade, event.taker_order), wall, stalled)

    def _aggregated(self, trade: Aggregate | None, wall: int, stalled: bool) -> None:
        if trade is None:
            return
        for stream in self._board.of_kind("aggTrade"):
            self._publish(stream, self._text.aggregate(wall // NS_PER_MS, trade), stalled)

    def _publish(self, stream: Stream, raw: bytes, stalled: bool) -> None:
        if stalled:
            self._held_back += 1
        else:
            self.sockets.publish(stream.name, raw)

    def _shown(self, limit: int) -> Shown:
        exchange, atoms = self.market.exchange, self._text.lot_atoms
        bids = [(tick, lots * atoms) for tick, lots in exchange.levels(Side.BUY, limit)]
        asks = [(tick, lots * atoms) for tick, lots in exchange.levels(Side.SELL, limit)]
        return Shown(exchange.update_id - self._id_shift, bids, asks)

    def _stream_of(self, name: str) -> Stream | None:
        return stream_of(self.instrument, name)

    def _session_of(self, path: str, query: Mapping[str, str]) -> Session | WsApiSession | None:
        return self.desk.session(path, query)

    def _wall_ms(self) -> int:
        return self._clock() // NS_PER_MS

    def answer(self, request: Request, arrived: int) -> Reply:
        """Do what a request that arrived at `arrived` (ms) asks for; its news goes out first."""
        wall = self._clock()
        now = self._advance(wall)
        reply = self.desk.answer(request, arrived, now)
        self._take(wall, self.market.flow.feed_stalled(now))
        return reply

    def _show(self, key: str, path: str) -> bytes:
        return self.desk.show(key, path, self._last // NS_PER_MS, self.virtual(self._last))

    async def _respond(self, request: web.Request) -> web.Response:
        if self._switchable and asks_switch(request):
            status, body = obey(self.misbehave, await request.read())
            return web.Response(status=status, body=body, content_type="application/json")
        asked = await read(request)
        return await self.misbehave.respond(
            request, lambda at: written(self.answer(asked, at // NS_PER_MS))
        )

    async def _admit(self, request: web.Request) -> web.Response | None:
        return await self.misbehave.admit(request)

    def stats(self) -> ServerStats:
        """Counts for eyes and tests."""
        return ServerStats(
            self._steps,
            self._trades,
            self._depth_updates,
            self._book_tickers,
            self._held_back,
            self._swallowed,
            self._behind,
            self.sockets.stats(),
        )

    # --- Faults; those of connections are described in `VenueSockets` ----------------------

    def cut(self) -> None:
        """Drop every web socket abruptly."""
        self.sockets.cut()

    def mute(self, seconds: float) -> None:
        """Connected but silent: no data, no pong."""
        self.sockets.mute(seconds)

    def unmute(self) -> None:
        """End `mute`."""
        self.sockets.unmute()

    def age(self, ms_per_message: float) -> None:
        """Each message is later than the one before by so much more."""
        self.sockets.age(ms_per_message)

    def hold(self, seconds: float) -> None:
        """Keep messages back, then burst."""
        self.sockets.hold(seconds)

    def refuse(self, refusing: bool) -> None:
        """Answer everything with 503."""
        self.sockets.refuse(refusing)

    def expire_listen_key(self) -> None:
        """End every client's stream of own events; what it says last is sent."""
        now = self._wall_ms()
        for seat in self.desk.seats:
            self.publish_user(*seat.stream.end(now))

    def swallow(self, depth_updates: int) -> None:
        """Lose the next so many depth updates, counted over all depth streams."""
        self._swallow = depth_updates

    def restart(self, first_id: int = RESTART_FIRST_ID) -> None:
        """Come back as after a restart: connections drop, update ids begin at `first_id`."""
        self.cut()
        self._take(self._clock(), stalled=True)
        self._id_shift = self.market.exchange.update_id - first_id
        self._board = Board(self._text)
        self._planned = -1

    def __repr__(self) -> str:
        return f"<VenueServer {self.instrument.venue} {self.instrument.symbol} {self.sockets!r}>"


def opened(venue: str, path: str, query: Mapping[str, str]) -> Session | None:
    """The session of a web socket path; None where the venue would not open one."""
    try:
        return session_of(venue, path, query)
    except Refused:
        return None


async def read(request: web.Request) -> Request:
    """A request as the venue's side reads it, its query and body as they were sent."""
    body = (await request.read()).decode("utf-8", "replace")
    query = request.raw_path.partition("?")[2]
    return Request(request.method, request.path, query, body, request.headers.get("X-MBX-APIKEY"))


def written(reply: Reply) -> web.Response:
    """An answer as it is sent."""
    return web.Response(
        status=reply.status,
        body=reply.body,
        content_type="application/json",
        headers=dict(reply.headers),
    )


def respond(api: PublicApi, request: web.Request, now: int) -> web.Response:
    """Answer a REST request through `api`, counting its weight."""
    if request.method == "GET":
        reply = api.answer(request.path, request.query, now)
    else:
        reply = unknown_path(request.path, now)
    _, refusal = api.spend(reply.weight, now)
    reply = refusal or reply
    return written(reply._replace(headers=(api.weights.header(), *reply.headers)))
