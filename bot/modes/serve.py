"""`mmbot serve`: the simulated exchange alone, or a recorded capture, behind real sockets."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from bot.domain.instrument import Fees, Instrument
from bot.journal.capture import chunks
from bot.modes.instruments import FEES
from bot.modes.settings import ConfigError
from bot.ops.web import why_not
from bot.shell.clock import Clock
from bot.shell.loop import run as run_loop
from bot.shell.playback import Playback
from bot.shell.signals import stop_signals
from bot.shell.venueserver import Client, VenueServer
from bot.sim.account import Account
from bot.sim.exchange import Exchange
from bot.sim.flow import Flow
from bot.sim.habits import SPOT, USDM, FlowParams
from bot.sim.scenarios import SCENARIOS

HABITS: Final = {"binance-usdm": USDM, "binance-spot": SPOT}


# What the client of a served market has, unless it is told otherwise; nothing is secret here.
API_KEY: Final = "simulated-exchange-key"
API_SECRET: Final = "simulated-exchange-secret"  # noqa: S105 - it guards play money on loopback
QUOTE: Final = Decimal(100_000)
BASE: Final = Decimal(2)  # on spot


class Market:
    """The exchange and the flow that trades on it."""

    def __init__(self, params: FlowParams, seed: int, start: int) -> None:
        self.exchange = Exchange()
        self.flow = Flow(self.exchange, params, seed, start)
        self.exchange.drain()  # the book that the market opens with is no news


def flow_params(venue: str, scenario: str) -> FlowParams:
    """How a market goes. ConfigError for a venue or scenario that there is none of."""
    params = HABITS.get(venue)
    if params is None:
        raise ConfigError(
            f"there is no simulated market of {venue}: give {' or '.join(HABITS)} as venue"
        )
    weather = SCENARIOS.get(scenario)
    if weather is None:
        raise ConfigError(f"--scenario {scenario} is not known: give {', '.join(SCENARIOS)}")
    return replace(params, scenario=weather)


def new_client(
    market: Market,
    instrument: Instrument,
    now: int,
    *,
    key: str = API_KEY,
    secret: str = API_SECRET,
    deposits: Mapping[str, Decimal] | None = None,
    fees: Fees | None = None,
) -> Client:
    """A client with an account of his own on a market whose time is `now`."""
    if deposits is None:
        deposits = {instrument.quote: QUOTE}
        if instrument.venue == "binance-spot":
            deposits[instrument.base] = BASE
    rates = fees or FEES[instrument.venue]
    account = Account(market.exchange, instrument, rates, deposits=deposits, now=now)
    return Client(key, secret, account)


def new_server(
    instrument: Instrument,
    clock: Clock,
    *,
    key: str = API_KEY,
    secret: str = API_SECRET,
    deposits: Mapping[str, Decimal] | None = None,
    fees: Fees | None = None,
    scenario: str = "calm",
    seed: int = 1,
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
    switchable: bool = False,
) -> VenueServer:
    """The simulated exchange with one client, not yet started. ConfigError as `flow_params`."""
    start = clock.now()
    market = Market(flow_params(instrument.venue, scenario), seed, start)
    client = new_client(
        market, instrument, start, key=key, secret=secret, deposits=deposits, fees=fees
    )
    return VenueServer(
        market,
        instrument,
        clock.now,
        host=host,
        port=port,
        speed=speed,
        start=start,
        clients=[client],
        switchable=switchable,
    )


def new_playback(
    instrument: Instrument,
    clock: Clock,
    captures: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
) -> Playback:
    """A recorded capture as a market, not yet started.

    ConfigError for a venue that is not spoken, CaptureError when a file cannot be played.
    """
    if instrument.venue not in HABITS:
        raise ConfigError(
            f"{instrument.venue} cannot be played: give {' or '.join(HABITS)} as venue"
        )
    next(chunks(captures))  # missing or no capture: told before anybody connects
    return Playback(captures, instrument, clock.now, host=host, port=port, speed=speed)


class ServeError(Exception):
    """The address cannot be served; one sentence says why."""


class Serving:
    """A server until it is told to stop; what `mmbot serve` runs."""

    def __init__(self, server: VenueServer | Playback) -> None:
        self._server = server
        self._stopped = asyncio.Event()
        self._interrupted = False

    async def run(self, told: Callable[[int], None], *, with_parent: bool) -> bool:
        """Serve; `told` gets the port. Ends on SIGINT, SIGTERM, and with the parent if asked.

        Returns whether it was SIGINT. Raises ServeError when the port cannot be had, and what
        broke the market.
        """
        loop = asyncio.get_running_loop()
        with stop_signals(self._signalled):
            try:
                await self._server.start()
            except OSError as error:
                sockets = self._server.sockets
                raise ServeError(why_not(sockets.host, sockets.port, error)) from error
            try:
                if with_parent:
                    loop.add_reader(sys.stdin.fileno(), self._parent_spoke)
                told(self._server.port)
                await self._until_stopped()
            finally:
                await self._server.close()
        return self._interrupted

    async def _until_stopped(self) -> None:
        waits: set[asyncio.Task[Any]] = {
            asyncio.create_task(self._stopped.wait()),
            asyncio.create_task(self._server.wait()),
        }
        done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.wait(waits)
        for task in done:
            task.result()

    def _signalled(self, name: signal.Signals) -> None:
        self._interrupted |= name is signal.SIGINT
        self._stopped.set()

    def _parent_spoke(self) -> None:
        """The parent never writes: what can be read is the end of its pipe."""
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._stopped.set()


def serve(
    server: VenueServer | Playback, told: Callable[[int], None], *, with_parent: bool
) -> bool:
    """Serve on an event loop of its own; see `Serving.run`."""
    return run_loop(Serving(server).run(told, with_parent=with_parent))
