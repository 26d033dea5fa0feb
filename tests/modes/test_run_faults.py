"""A paper run against the simulated exchange over real sockets, while everything breaks.

Per fault: how long until no own order works, how long after its end until quotes rest on
both sides again, and what must hold all the while. `-s` shows the table of measured times.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from bot.core.engine import Engine
from bot.domain.decisions import Decision, Place
from bot.domain.events import Filled
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.modes import run as run_module
from bot.modes.audit import audit
from bot.modes.demo import on_exchange
from bot.modes.run import EXIT_DONE, LiveRun, feed_limits
from bot.modes.serve import Market, new_market
from bot.modes.settings import Loaded, load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.feedlimits import FeedLimits
from bot.shell.venueserver import VenueServer

ROOT = Path(__file__).resolve().parents[2]
START_S = 10.0  # for the first quotes, on a busy machine
POLL_S = 0.002
FOREVER = 1_000_000
COOLDOWN_S = 3.0  # the longest hold of the breakers that these faults trip


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()


class Stallable:
    """A market whose feed can be stalled at will: its sockets live and say nothing."""

    def __init__(self, market: Market) -> None:
        self.exchange = market.exchange
        self.flow = self
        self.stalled = False
        self._market = market

    def advance(self, now: int) -> None:
        self._market.flow.advance(now)

    def feed_stalled(self, now: int) -> bool:
        return self.stalled


class Watch:
    """Notes when the orders were gone, when they were back, and what must never happen."""

    def __init__(self, clock: Clock, loaded: Loaded) -> None:
        self.clock = clock
        self.risk = loaded.params.risk
        self.gone_at = 0
        self.back_at = 0
        self.position_lots = 0
        self.placed = 0
        self.oldest_ns = 0
        self.wrong: list[str] = []

    def trust(self, now: int, trusted: bool) -> None:
        pass

    def learned(self, event: object, engine: Engine) -> None:
        if isinstance(event, Filled):
            self.position_lots += event.side * event.lots
        if engine.orders.n_working == 0:
            self.gone_at = self.gone_at or self.clock.now()
        elif self.gone_at and engine.book.trusted and engine.orders.two_sided():
            self.back_at = self.back_at or self.clock.now()

    def decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        h, risk = engine.book.read(), self.risk
        self.oldest_ns = max(self.oldest_ns, h.age)
        if not any(isinstance(decision, Place) for decision in decisions):
            return
        self.placed += 1
        silence, depth_silence = now - h.recv, now - h.depth_recv
        doubts = {
            "untrusted": not engine.book.trusted,
            "aged": h.age > risk.age_ms * NS_PER_MS,
            "silent": silence > risk.silence_all_ms * NS_PER_MS,
            "frozen": silence <= risk.silence_ms * NS_PER_MS < depth_silence,
        }
        self.wrong += [f"placed on a book that was {doubt} at {now}" for doubt in doubts if doubts[doubt]]


class Stage(NamedTuple):
    """A run that trades, and the exchange that it trades on."""

    live: LiveRun
    server: VenueServer
    market: Stallable
    watch: Watch
    going: asyncio.Task[int]

    async def until(self, met: Callable[[], object], timeout_s: float) -> None:
        """Wait for a condition; a run that ends meanwhile raises what broke it."""
        async with asyncio.timeout(timeout_s):
            while not met():
                if self.going.done():
                    raise AssertionError(f"the run ended with {self.going.result()}")
                await asyncio.sleep(POLL_S)

    @property
    def engine(self) -> Engine:
        return self.live.paper.engine


@asynccontextmanager
async def trading(
    folder: Path, *sets: str, limits: FeedLimits | None = None
) -> AsyncIterator[Stage]:
    """A run that quotes both sides; on leaving it is stopped, and judged as a whole."""
    clock = Clock()
    # A quarter of the demo's own unit is less than the venue's least notional.
    values = ("web.enabled=false", f"run.folder={folder}", "quote.unit_qty=0.01", *sets)
    loaded = load(ROOT / "config" / "demo.yaml", env={}, sets=values)
    start = clock.now()
    market = Stallable(new_market(loaded.instrument, "calm", 1, start))
    server = VenueServer(market, loaded.instrument, clock.now, start=start)
    async with server:
        watch = Watch(clock, loaded)
        url = f"http://{server.sockets.host}:{server.port}"
        live = LiveRun(on_exchange(loaded, url), eyes=(watch,), limits=limits)
        watch.clock = live.clock
        stage = Stage(live, server, market, watch, asyncio.create_task(live.go()))
        try:
            await stage.until(stage.engine.orders.two_sided, START_S)
            yield stage
        finally:
            live.stop("the test is over")
            async with asyncio.timeout(15):
                code = await stage.going
        assert code == EXIT_DONE
        judge(stage)


def judge(stage: Stage) -> None:
    """What holds of every run, whatever happened to it."""
    engine, watch = stage.engine, stage.watch
    assert watch.wrong == []
    assert watch.placed > 0
    assert engine.orders.n_working == 0
    assert engine.ledger.position_lots == watch.position_lots
    pnl = engine.ledger.mark(engine.mark())
    parts = pnl.spread + pnl.inventory - pnl.maker_fees + pnl.rebates - pnl.taker_fees + pnl.funding
    assert pnl.unexplained == 0
    assert parts == pnl.total
    found = audit(stage.live.folder.path)
    assert (found["ok"], found["difference"], found["closed"]) == (True, None, True)
    assert found["decisions"] == stage.live.paper.summary.decisions


class Fault(NamedTuple):
    """One thing that goes wrong. Limits are s: from its begin until no own order works, and
    from its end until both sides are quoted again.
    """

    begin: Callable[[Stage], None]
    end: Callable[[Stage], None]
    gone_s_max: float
    back_s_max: float
    lasts_s: float = 0.0  # at least, and at least until the orders are gone
    sets: tuple[str, ...] = ()


def nothing(stage: Stage) -> None:
    """The fault ends by itself."""


def stall(stage: Stage, stalled: bool) -> None:
    stage.market.stalled = stalled


def refuse(stage: Stage) -> None:
    stage.server.refuse(True)
    stage.server.cut()


IMPATIENT = ("risk.silence_all_ms=1000", "risk.silence_ms=600")
# Until quotes are back: a new connection and a snapshot of the book, then the cooldown.
RECONNECT_S = 1.5

FAULTS = {
    "cut": Fault(lambda s: s.server.cut(), nothing, 0.1, RECONNECT_S + COOLDOWN_S),
    "half-open": Fault(
        lambda s: s.server.mute(FOREVER), lambda s: s.server.unmute(), 3.3, RECONNECT_S + COOLDOWN_S
    ),
    "silent": Fault(
        lambda s: stall(s, True), lambda s: stall(s, False), 1.3, RECONNECT_S + COOLDOWN_S,
        sets=IMPATIENT,
    ),
    "no depth": Fault(
        lambda s: s.server.swallow(FOREVER), lambda s: s.server.swallow(0), 1.3,
        RECONNECT_S + COOLDOWN_S,
    ),
    "ageing": Fault(
        lambda s: s.server.age(50.0), lambda s: s.server.age(0.0), 1.0, RECONNECT_S + COOLDOWN_S
    ),
    "old burst": Fault(
        lambda s: s.server.hold(3.0), nothing, 1.3, RECONNECT_S + COOLDOWN_S, lasts_s=3.0,
        sets=IMPATIENT,
    ),
    "restart": Fault(lambda s: s.server.restart(1), nothing, 0.1, RECONNECT_S + COOLDOWN_S),
    "lost depth": Fault(lambda s: s.server.swallow(1), nothing, 0.25, RECONNECT_S + COOLDOWN_S),
    "refused": Fault(
        refuse, lambda s: s.server.refuse(False), 0.1, RECONNECT_S + COOLDOWN_S + 2.0, lasts_s=1.0
    ),
}  # fmt: skip


async def strike(stage: Stage, name: str, fault: Fault) -> None:
    """Let a fault happen, measure, and hold the times against their limits."""
    clock, watch = stage.live.clock, stage.watch
    began = clock.now()
    watch.gone_at = watch.back_at = 0
    fault.begin(stage)
    await stage.until(lambda: watch.gone_at, fault.gone_s_max + 5.0)
    least = began + round(fault.lasts_s * NS_PER_S)
    await stage.until(lambda: clock.now() >= least, fault.lasts_s + 1.0)
    ended = clock.now()
    fault.end(stage)
    await stage.until(lambda: watch.back_at, fault.back_s_max + 10.0)
    gone_s, back_s = (watch.gone_at - began) / NS_PER_S, (watch.back_at - ended) / NS_PER_S
    feed = stage.live.feed.stats()
    sys.stdout.write(
        f"\n  {name:<12} gone {gone_s:6.3f} s (<= {fault.gone_s_max:4.2f})"
        f"  back {back_s:6.3f} s (<= {fault.back_s_max:4.2f})"
        f"  {halts(stage)} drops {feed.drops} refused {feed.refused} snapshots {feed.snapshots}"
        f" oldest {watch.oldest_ns / NS_PER_MS:.0f} ms"
    )
    assert gone_s <= fault.gone_s_max
    assert back_s <= fault.back_s_max


def halts(stage: Stage) -> list[Any]:
    return list(stage.live.paper.summary.halts)


@pytest.mark.parametrize("name", FAULTS)
async def test_quotes_go_in_time_and_come_back(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    async with trading(tmp_path, *fault.sets) as stage:
        await strike(stage, name, fault)
