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

from bot.core import breakers
from bot.core.engine import Engine
from bot.core.orders import OrderState
from bot.domain.decisions import Decision, Place
from bot.domain.events import Filled
from bot.domain.params import RiskParams
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.modes import run as run_module
from bot.modes.audit import audit
from bot.modes.demo import on_exchange
from bot.modes.run import EXIT_DONE, LiveRun
from bot.modes.serve import Market, flow_params
from bot.modes.settings import Loaded, load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.feedlimits import FeedLimits
from bot.shell.venueserver import VenueServer
from bot.venues.binance.endpoints import Endpoints, endpoints

ROOT = Path(__file__).resolve().parents[2]
START_S = 10.0  # for the first quotes, on a busy machine
POLL_S = 0.002
# On paper a cancel and its report take multiples of the feed's lag: 9 s at worst as configured.
# And a quarter of the demo's own unit is less than the venue's least notional.
VALUES = ("paper.entry_latency_ms_max=50.0", "paper.response_latency_x=1.0", "quote.unit_qty=0.01")
FOREVER = 1_000_000


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
        self.cancelled_at = 0  # every own order was cancelled
        self.gone_at = 0  # and the venue has confirmed it
        self.back_at = 0
        self.placed_at = 0  # the latest order
        self.position_lots = 0
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
        working = [order for side in Side for order in engine.orders.working(side)]
        if all(order.state is OrderState.PENDING_CANCEL for order in working):
            self.cancelled_at = self.cancelled_at or self.clock.now()
        if not any(isinstance(decision, Place) for decision in decisions):
            return
        self.placed_at = self.clock.now()
        silence, depth_silence = now - h.recv, now - h.depth_recv
        doubts = {
            "untrusted": not engine.book.trusted,
            "aged": h.age > risk.age_ms * NS_PER_MS,
            "silent": silence > risk.silence_all_ms * NS_PER_MS,
            "frozen": silence <= risk.silence_ms * NS_PER_MS < depth_silence,
        }
        self.wrong += [
            f"placed on a book that was {doubt} at {now}" for doubt in doubts if doubts[doubt]
        ]


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
        return self.live.engine_run.engine


@asynccontextmanager
async def trading(
    folder: Path, *sets: str, limits: FeedLimits | None = None
) -> AsyncIterator[Stage]:
    """A run that quotes both sides; on leaving it is stopped, and judged as a whole."""
    clock = Clock()
    values = ("mode=paper", "web.enabled=false", f"run.folder={folder}", *VALUES, *sets)
    loaded = load(ROOT / "config" / "demo.yaml", env={}, sets=values)
    start = clock.now()
    market = Stallable(Market(flow_params(loaded.instrument.venue, "calm"), 1, start))
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
    assert watch.placed_at > 0
    assert engine.orders.n_working == 0
    assert engine.ledger.position_lots == watch.position_lots
    pnl = engine.ledger.mark(engine.mark())
    parts = pnl.spread + pnl.inventory - pnl.maker_fees + pnl.rebates - pnl.taker_fees + pnl.funding
    assert pnl.unexplained == 0
    assert parts == pnl.total
    found = audit(stage.live.folder.path)
    assert (found["ok"], found["difference"], found["closed"]) == (True, None, True)
    assert found["decisions"] == stage.live.engine_run.summary.decisions


# Silences of a venue that is quick to be missed.
IMPATIENT = ("risk.silence_all_ms=1000", "risk.silence_ms=600")
HOLD_S = 0.5  # instead of the breakers' cooldowns, which only take time
# Until quotes are back: a connection and a snapshot of the book, then the cooldown.
BACK_S = 2.0 + HOLD_S


class Fault(NamedTuple):
    """One thing that goes wrong, and what it must lead to. Limits are s.

    `end` is None for what ends by itself. `trip` is a cause that must trip, `drop` why the
    feed gave its connection up, "" where it keeps it and None where either is right.
    """

    begin: Callable[[Stage], None]
    end: Callable[[Stage], None] | None
    trips: tuple[str, ...]
    drop: str | None
    cancelled_s_max: float  # from the fault's begin until every own order is cancelled
    confirmed_s_max: float = 0.15  # from then until the venue has said so
    back_s_max: float = BACK_S  # from the fault's end until both sides are quoted
    lasts_s: float = 0.0  # at least, and at least until the orders are gone
    sets: tuple[str, ...] = ()


def stall(stage: Stage) -> None:
    stage.market.stalled = True


def flow_again(stage: Stage) -> None:
    stage.market.stalled = False


def refuse(stage: Stage) -> None:
    stage.server.refuse(True)
    stage.server.cut()


LOST = ("book_untrusted:disconnect",)
SILENCE = ("stale:silence", *LOST)

CUT = Fault(lambda s: s.server.cut(), None, LOST, "cut", 0.1)

FAULTS = {
    "half-open": Fault(
        lambda s: s.server.mute(FOREVER), lambda s: s.server.unmute(), LOST, "half_open", 3.3
    ),
    "silent": Fault(stall, flow_again, SILENCE, "silent", 1.3, lasts_s=1.5, sets=IMPATIENT),
    "no depth": Fault(
        lambda s: s.server.swallow(FOREVER), lambda s: s.server.swallow(0), SILENCE, "frozen", 1.3,
        lasts_s=1.8,
    ),
    # Some ten messages on, the next one is more than `risk.age_ms` late.
    "ageing": Fault(
        lambda s: s.server.age(50.0), lambda s: s.server.age(0.0), ("stale:age",), None, 1.0,
        confirmed_s_max=1.5,
    ),
    "old burst": Fault(
        lambda s: s.server.hold(8.0), None, SILENCE, "silent", 1.3, lasts_s=8.0,
        back_s_max=BACK_S + 2.0, sets=IMPATIENT,  # attempts are spaced by then
    ),
    "restart": Fault(lambda s: s.server.restart(1), None, LOST, "cut", 0.1),
    "lost depth": Fault(lambda s: s.server.swallow(1), None, ("book_untrusted:gap",), "", 0.25),
    "refused": Fault(
        refuse, lambda s: s.server.refuse(False), LOST, "cut", 0.1,
        back_s_max=BACK_S + 2.0, lasts_s=1.0,  # attempts are spaced by then
    ),
}  # fmt: skip


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers let go sooner."""

    def hasty(risk: RiskParams) -> tuple[breakers.Rule, ...]:
        return tuple(r._replace(hold_s=min(r.hold_s, HOLD_S)) for r in rules(risk))

    rules = breakers.rules
    monkeypatch.setattr(breakers, "rules", hasty)


async def strike(stage: Stage, name: str, fault: Fault) -> float:
    """Let a fault happen, measure, and hold what came of it against what must.

    Returns how long after its end both sides were quoted again, s.
    """
    clock, watch = stage.live.clock, stage.watch
    began = clock.now()
    watch.cancelled_at = watch.gone_at = watch.back_at = 0
    fault.begin(stage)
    await stage.until(lambda: watch.gone_at, 10.0)
    ends = began + round(fault.lasts_s * NS_PER_S)
    await stage.until(lambda: clock.now() >= ends, fault.lasts_s + 1.0)
    assert watch.placed_at < watch.cancelled_at  # and nothing since
    if fault.end is not None:
        ends = clock.now()
        fault.end(stage)
    await stage.until(lambda: watch.back_at, 15.0)
    cancelled_s = (watch.cancelled_at - began) / NS_PER_S
    confirmed_s = (watch.gone_at - watch.cancelled_at) / NS_PER_S
    back_s = (watch.back_at - ends) / NS_PER_S
    causes = [halt["cause"] for halt in stage.live.engine_run.summary.halts]
    drops = stage.live.feed.stats().drops
    sys.stdout.write(
        f"\n  {name:<10} cancelled {cancelled_s:.3f} s (<= {fault.cancelled_s_max:.2f})"
        f"  confirmed +{confirmed_s:.3f} s (<= {fault.confirmed_s_max:.2f})"
        f"  quoting {back_s:.3f} s (<= {fault.back_s_max:.2f}) after the end"
        f"  {' '.join(causes)} {drops}\n"
    )
    assert any(trip in causes for trip in fault.trips)
    assert fault.drop is None or fault.drop in drops or (fault.drop, drops) == ("", {})
    assert cancelled_s <= fault.cancelled_s_max
    assert confirmed_s <= fault.confirmed_s_max
    assert back_s <= fault.back_s_max
    return back_s


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", FAULTS)
async def test_quotes_go_in_time_and_come_back(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    async with trading(tmp_path, *fault.sets) as stage:
        await strike(stage, name, fault)


async def test_quotes_come_back_only_after_the_cooldown(tmp_path: Path) -> None:
    async with trading(tmp_path) as stage:
        assert await strike(stage, "cut", CUT._replace(back_s_max=2.0 + 2.0)) >= 2.0


async def test_a_burst_that_the_inbox_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "FRAMES_MAX", 64)
    hold_s = 1.5  # less than any silence: the connection stays
    fault = Fault(
        lambda s: s.server.hold(hold_s), None, ("book_untrusted:overflow",), "", hold_s + 0.25,
        confirmed_s_max=3.5, back_s_max=2.0 + 3.0, lasts_s=hold_s,
    )  # fmt: skip
    async with trading(tmp_path, *fault.sets) as stage:
        await strike(stage, "overflow", fault)
        assert stage.live.inbox.overflows > 0


# --- leaving nothing behind ------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_five_hundred_reconnects_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generous(*args: Any, **options: Any) -> Endpoints:
        return replace(endpoints(*args, **options), attempts_max=1_000_000)

    monkeypatch.setattr(run_module, "endpoints", generous)
    limits = FeedLimits(backoff_first_ms=0, backoff_ms_max=0, attempts_max=100_000)
    before = len(asyncio.all_tasks()), descriptors()
    async with trading(tmp_path, limits=limits) as stage:
        feed, sockets = stage.live.feed, stage.server.sockets
        journal = stage.live.folder.journal
        await stage.until(lambda: any(journal.glob("market-*")), 5.0)  # opened by its thread
        trading_with = len(asyncio.all_tasks()), descriptors()
        began = stage.live.clock.now()
        for n in range(1, 501):
            stage.server.cut()
            await stage.until(
                lambda n=n: feed.stats().connects > n and sockets.stats().clients == 1, 2.0
            )
        ms = (stage.live.clock.now() - began) / 500 / NS_PER_MS
        sys.stdout.write(f"\n  500 reconnects, {ms:.1f} ms each\n")
        assert feed.stats().drops == {"cut": 500}
        await stage.until(lambda: (len(asyncio.all_tasks()), descriptors()) == trading_with, 2.0)
        await stage.until(lambda: stage.engine.book.trusted, 5.0)
    async with asyncio.timeout(2.0):
        while (len(asyncio.all_tasks()), descriptors()) != before:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
