"""`mmbot serve`: the simulated exchange alone, or a recorded capture, behind real sockets."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from msgspec.structs import replace

from bot.domain.instrument import Instrument
from bot.modes.settings import ConfigError
from bot.shell.clock import Clock
from bot.shell.playback import Playback
from bot.shell.venueserver import VenueServer
from bot.sim.exchange import Exchange
from bot.sim.flow import Flow
from bot.sim.habits import SPOT, USDM, FlowParams
from bot.sim.scenarios import SCENARIOS

HABITS: Final = {"binance-usdm": USDM, "binance-spot": SPOT}


class Market:
    """The exchange and the flow that trades on it."""

    def __init__(self, params: FlowParams, seed: int, start: int) -> None:
        self.exchange = Exchange()
        self.flow = Flow(self.exchange, params, seed, start)
        self.exchange.drain()  # the book that the market opens with is no news


def new_market(instrument: Instrument, scenario: str, seed: int, start: int) -> Market:
    """A market of the instrument. ConfigError for a venue or scenario that there is none of."""
    params = HABITS.get(instrument.venue)
    if params is None:
        raise ConfigError(
            f"there is no simulated market of {instrument.venue}: "
            f"give {' or '.join(HABITS)} as --venue"
        )
    weather = SCENARIOS.get(scenario)
    if weather is None:
        raise ConfigError(f"--scenario {scenario} is not known: give {', '.join(SCENARIOS)}")
    return Market(replace(params, scenario=weather), seed, start)


def new_server(
    instrument: Instrument,
    clock: Clock,
    *,
    scenario: str = "calm",
    seed: int = 1,
    host: str = "127.0.0.1",
    port: int = 0,
    speed: float = 1.0,
) -> VenueServer:
    """The simulated exchange, not yet started."""
    start = clock.now()
    market = new_market(instrument, scenario, seed, start)
    return VenueServer(
        market, instrument, clock.now, host=host, port=port, speed=speed, start=start
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
    """A recorded capture as a market, not yet started."""
    return Playback(captures, instrument, clock.now, host=host, port=port, speed=speed)


class Serving:
    """A server until it is told to stop; what `mmbot serve` runs."""

    def __init__(self, server: VenueServer | Playback) -> None:
        self._server = server
        self._stopped = asyncio.Event()

    async def run(self, told: Callable[[int], None], *, with_parent: bool) -> None:
        """Serve; `told` gets the port. Ends on SIGINT, SIGTERM, and with the parent if asked.

        Raises OSError when the port cannot be had, CaptureError for a capture that cannot be
        read, and what broke the market.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._stopped.set)
        if with_parent:
            loop.add_reader(sys.stdin.fileno(), self._parent_spoke)
        async with self._server as server:
            told(server.port)
            waits: set[asyncio.Task[Any]] = {
                asyncio.create_task(self._stopped.wait()),
                asyncio.create_task(server.wait()),
            }
            done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            for task in done:
                task.result()

    def _parent_spoke(self) -> None:
        """The parent never writes: what can be read is the end of its pipe."""
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self._stopped.set()


def serve(
    server: VenueServer | Playback, told: Callable[[int], None], *, with_parent: bool
) -> None:
    """Serve on an event loop of its own."""
    uvloop.run(Serving(server).run(told, with_parent=with_parent))
