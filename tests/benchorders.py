"""What `make bench` measures of order entry, and the same of ccxt.pro, in turns.

Both place orders at the simulated exchange, which runs in another process, one at a time and
with a pause between two, as a market does it. An order's times, all of one clock:

    decided -> ... -> written -> (loopback, the exchange, loopback) -> heard -> ... -> handled

`written` is when the event loop has been given the request's bytes; it hands them to the kernel
in the same round, some 30 us later, which cannot be seen from here: the exchange that they wake
may run first. `heard` is when the loop delivers the reply's first bytes. Of ours, `decided` is
the moment at which `decide` has returned: the journal and the budget lie behind it; `handled` is
when the order table knows that the order rests. Of ccxt's they are the call and the return of
`create_order`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import numpy as np
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.core.budget import PLACE  # noqa: E402 - run as a script: the path comes first
from bot.core.orders import OrderState, OrderTable  # noqa: E402
from bot.domain.decisions import Cancel, Place, Request  # noqa: E402
from bot.domain.events import OrderCancelled, OrderOpened, OwnEvent  # noqa: E402
from bot.domain.units import Side  # noqa: E402
from bot.journal.log import Decided, Header, LogWriter  # noqa: E402
from bot.modes.account import access_of  # noqa: E402
from bot.modes.demo import ExchangeProcess, Served, on_exchange  # noqa: E402
from bot.modes.execution import budget_of  # noqa: E402
from bot.modes.settings import Loaded, load  # noqa: E402
from bot.shell.clock import Clock  # noqa: E402
from bot.shell.gateway import Gateway  # noqa: E402
from bot.shell.inbox import Inbox  # noqa: E402
from bot.shell.loop import run as run_loop  # noqa: E402
from bot.shell.outbox import Outbox, Tasks  # noqa: E402
from bot.shell.wire import Wire  # noqa: E402
from bot.venues.binance.ordercodec import order_codec  # noqa: E402
from tests.shell.test_venueserver import pointed  # noqa: E402

CONFIG: Final = ROOT / "config" / "demo.yaml"
ORDERS: Final = 200  # of each side, behind those of the warm-up
WARM_UP: Final = 20
TURN: Final = 20  # orders that one side places before it is the other's turn
PAUSE_S: Final = 0.035  # both sides together stay within 300 orders in ten seconds
PEER: Final = "peer "  # before the names of the peer's figures
PREFIX: Final = "mm0be4c5"  # of client ids
LOTS: Final = 10
PATIENCE_S: Final = 5.0  # for one state of one order
BEHIND: Final = 3_000  # ticks behind the touch: nothing fills
SYMBOL: Final = "BTC/USDT:USDT"
EVENTS: Final = 20_000  # of the order table and the budget

_RECEIVED: Final = ResponseHandler.data_received

clock = time.monotonic_ns


class Times(NamedTuple):
    """One order, ns."""

    decided: int
    written: int
    heard: int
    handled: int

    @property
    def to_wire(self) -> int:
        """From the decision to the bytes on the socket."""
        return self.written - self.decided

    @property
    def own(self) -> int:
        """What was spent on our side of the socket."""
        return self.handled - self.decided - (self.heard - self.written)


class Taps:
    """When the last request's bytes went out, and when its reply's first bytes came."""

    def __init__(self) -> None:
        self.written = self.heard = 0

    def reset(self) -> None:
        """Before an order."""
        self.written = self.heard = 0

    def _wrote(self, write: Callable[..., None]) -> Callable[..., None]:
        def written(writer: StreamWriter, data: Any) -> None:
            write(writer, data)
            self.written = clock()

        return written

    def _read(self, read: Callable[..., None]) -> Callable[..., None]:
        def received(handler: ResponseHandler, data: bytes) -> None:
            self.heard = self.heard or clock()
            read(handler, data)

        return received

    @contextmanager
    def on(self) -> Iterator[None]:
        """aiohttp, which both sides use, with a tap on either way."""
        with (
            patch.object(StreamWriter, "_write", self._wrote(StreamWriter._write)),
            patch.object(StreamWriter, "_writelines", self._wrote(StreamWriter._writelines)),
            patch.object(ResponseHandler, "data_received", self._read(_RECEIVED)),
        ):
            yield


class Ours:
    """The bot's order entry behind the engine: journal, outbox, gateway, wire, order table."""

    def __init__(self, loaded: Loaded, served: Served, taps: Taps, journal: Path) -> None:
        there = on_exchange(loaded, served.url)
        self._clock = Clock()
        self._taps = taps
        self._log = LogWriter(journal)
        self._log.append(_header(loaded))
        self._inbox = Inbox(self._clock, frames_max=1, bytes_max=1)
        self._table = OrderTable()
        self._tasks = Tasks(_broke)
        codec = order_codec(loaded.instrument, PREFIX)
        self._budget = budget_of(loaded.settings.venue)
        timeout_ms = loaded.settings.execution.request_timeout_ms
        self._wire = Wire(access_of(there, served.keys), codec, self._clock, timeout_ms=timeout_ms)
        self._gateway = Gateway(
            self._wire, codec, self._table, self._inbox, self._clock,
            Outbox(self._budget, self._clock, self._tasks), self._tasks,
            unheard=_broke, unasked=_broke, clock_wrong=lambda: None, silence=_silenced,
        )  # fmt: skip
        self._n = 0

    async def order(self, tick: int) -> Times:
        """Place one order and see it rest; cancel it behind the measurement."""
        self._n += 1
        place = Place(f"{PREFIX}-{self._n}", Side.BUY, tick, LOTS, 0)
        self._taps.reset()
        now = self._clock.now()
        self._table.placed(place, now)
        decided = clock()
        self._perform(now, place)
        await self._until(place.order_id, OrderState.LIVE)
        times = Times(decided, self._taps.written, self._taps.heard, clock())
        now = self._clock.now()
        self._table.cancel_sent(place.order_id, now)
        self._perform(now, Cancel(place.order_id))
        await self._until(place.order_id, OrderState.CANCELLED)
        return times

    def _perform(self, now: int, request: Request) -> None:
        """As the pump does it."""
        self._log.append(Decided(0, now, 0, [request]))
        self._log.flush()
        self._gateway.perform(now, [request])

    async def _until(self, order_id: str, state: OrderState) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self._table.find(order_id).state is not state:
                await self._inbox.wait(None)
                for event in self._inbox.drain(100):
                    assert isinstance(event, OwnEvent), event
                    self._table.apply(event)

    async def close(self) -> None:
        """Shut everything."""
        await self._tasks.close()
        await self._wire.close()
        self._log.close()


class Peer:
    """ccxt.pro as it is, awaiting one order after the other, its own throttle off."""

    def __init__(self, served: Served, taps: Taps) -> None:
        from ccxt.pro import binanceusdm

        keys = {"apiKey": served.keys.api_key, "secret": served.keys.secret}
        port = int(served.url.rpartition(":")[2])
        self._ccxt = pointed(binanceusdm(keys | {"enableRateLimit": False}), port)
        self._taps = taps

    async def touch(self) -> float:
        """The best bid; its markets are loaded behind it."""
        await self._ccxt.load_markets()
        book = await self._ccxt.fetch_order_book(SYMBOL, 5)
        return float(book["bids"][0][0])

    async def order(self, price: float, amount: float) -> Times:
        """Place one order; cancel it behind the measurement."""
        self._taps.reset()
        decided = clock()
        placed = await self._ccxt.create_order(
            SYMBOL, "limit", "buy", amount, price, {"postOnly": True}
        )
        times = Times(decided, self._taps.written, self._taps.heard, clock())
        assert placed["status"] == "open", placed
        await self._ccxt.cancel_order(placed["id"], SYMBOL)
        return times

    async def close(self) -> None:
        """Shut everything."""
        await self._ccxt.close()


def _header(loaded: Loaded) -> Header:
    return Header(
        bot_version="bench", mode="testnet", started_at=0, seed=0, prefix=PREFIX,
        config_digest=loaded.digest, instrument=loaded.instrument, fees=loaded.fees,
        params=loaded.params,
    )  # fmt: skip


def _broke(failure: object) -> None:
    raise AssertionError(f"order entry broke: {failure}")


def _silenced(until: int, banned: bool) -> None:
    raise AssertionError("the exchange wants silence: the measurement is too quick")


async def _in_turns(loaded: Loaded, served: Served, journal: Path) -> dict[str, list[Times]]:
    taps = Taps()
    ours, peer = Ours(loaded, served, taps, journal), Peer(served, taps)
    instrument = loaded.instrument
    found: dict[str, list[Times]] = {"ours": [], "peer": []}
    with taps.on():  # before the first connection: uvloop keeps what it calls of a protocol
        try:
            tick = round(await peer.touch() / float(instrument.tick)) - BEHIND
            price, amount = float(instrument.price(tick)), float(instrument.quantity(LOTS))
            for _ in range((WARM_UP + ORDERS) // TURN):
                for _ in range(TURN):
                    await asyncio.sleep(PAUSE_S)
                    found["ours"].append(await ours.order(tick))
                for _ in range(TURN):
                    await asyncio.sleep(PAUSE_S)
                    found["peer"].append(await peer.order(price, amount))
        finally:
            await ours.close()
            await peer.close()
    return {name: times[WARM_UP:] for name, times in found.items()}


def order_entry() -> dict[str, float]:
    """From decision to wire, and the own time of an order, µs; ccxt's behind PEER."""
    loaded = load(CONFIG, env={})
    settings = loaded.settings
    arguments = ["--venue", settings.venue, "--symbol", settings.symbol]
    with tempfile.TemporaryDirectory() as folder, ExchangeProcess(arguments) as exchange:
        journal = Path(folder) / "log"
        found = run_loop(_in_turns(loaded, exchange.served(), journal))
    theirs = {PEER + name: us for name, us in _percentiles(found["peer"]).items()}
    return _percentiles(found["ours"]) | theirs


def _percentiles(orders: Sequence[Times]) -> dict[str, float]:
    assert all(t.decided < t.written < t.heard < t.handled for t in orders), "a tap was missed"
    named = {
        "decision_to_wire": [order.to_wire for order in orders],
        "order_own_time": [order.own for order in orders],
    }
    return {
        f"{name}_p{percent}": float(np.percentile(times, percent)) / 1e3
        for name, times in named.items()
        for percent in (50, 99)
    }


# --- without a socket -------------------------------------------------------------------------


def order_table_ns() -> float:
    """Mean time of one event in the life placed -> rests -> cancel sent -> cancelled, ns."""
    table = OrderTable()
    for n in range(4):  # what a two-sided ladder has at rest
        table.placed(Place(f"rest-{n}", Side.BUY if n % 2 else Side.SELL, 100 + n, LOTS, 0), 1)
    lives = [
        (
            Place(f"bench-{n}", Side.BUY, 100, LOTS, 0),
            OrderOpened(2, f"bench-{n}"),
            OrderCancelled(4, f"bench-{n}", 0),
        )
        for n in range(EVENTS // 4)
    ]
    began = time.perf_counter_ns()
    for place, opened, cancelled in lives:
        table.placed(place, 1)
        table.apply(opened)
        table.cancel_sent(place.order_id, 3)
        table.apply(cancelled)
    return (time.perf_counter_ns() - began) / (4 * len(lives))


def budget_ns() -> float:
    """Mean time of `Budget.wait_ns` for a placement, with the windows half full, ns."""
    budget = budget_of("binance-usdm")
    now = 1_700_000_000_000_000_000
    for n in range(500):
        budget.spent(1, 1, now + n * 100_000_000)  # ten orders a second for most of a minute
    now += 500 * 100_000_000
    began = time.perf_counter_ns()
    for n in range(EVENTS):
        budget.wait_ns(PLACE, 1, 1, now + n)
    return (time.perf_counter_ns() - began) / EVENTS


def without_socket() -> dict[str, float]:
    """What order entry computes by itself, ns."""
    return {"order_event_ns": order_table_ns(), "budget_wait_ns": budget_ns()}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.stdout.write(json.dumps(order_entry() | without_socket(), indent=2) + "\n")
