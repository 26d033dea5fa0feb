"""The daemon with a real pump and a market made by hand, on real time."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.modes.enginerun import EngineRun
from bot.modes.settings import load
from bot.modes.warmup import warm
from bot.shell import daemon as module
from bot.shell.clock import Clock
from bot.shell.daemon import Daemon
from bot.shell.inbox import Inbox
from bot.sim.paper import Paper
from tests.shell.wire import eventually

CONFIG = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"
MID = 600_000


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    """A kernel that compiles under a frame makes the frame old, and the paper venue slow."""
    warm()


class Bench:
    """A daemon on its inbox; `opens` gives it a book to quote on."""

    def __init__(self, *sets: str) -> None:
        self.clock = Clock()
        self.engine_run = EngineRun(load(CONFIG, env={}, sets=sets))
        self.inbox = Inbox(self.clock, frames_max=100, bytes_max=1 << 20)
        self.snapshots = 0
        self.batches: list[tuple[int, int]] = []
        self.daemon = Daemon(
            self.engine_run.engine,
            self.engine_run.pump,
            self.inbox,
            self.clock,
            self._snapshot,
            lambda began, done: self.batches.append((began, done)),
        )

    def _snapshot(self) -> None:
        self.snapshots += 1

    def say(self, text: str) -> None:
        self.inbox.put_frame(self.clock.now(), text.encode())

    async def opens(self) -> None:
        """A first update, and the snapshot once it is asked for."""

        def levels(ticks: range) -> str:
            return ",".join(f'["{tick / 10:.2f}","50.000"]' for tick in ticks)

        ms = self.clock.now() // NS_PER_MS
        self.say(
            f'{{"e":"depthUpdate","E":{ms},"T":{ms},"s":"BTCUSDT","U":1,"u":10,"pu":0,"b":[],"a":[]}}'
        )
        await eventually(lambda: self.snapshots)
        bids, asks = levels(range(MID - 1, MID - 200, -1)), levels(range(MID, MID + 200))
        self.say(f'{{"lastUpdateId":5,"bids":[{bids}],"asks":[{asks}]}}')

    def working(self) -> int:
        return sum(len(self.engine_run.engine.orders.working(side)) for side in Side)

    async def quoting(self) -> "asyncio.Task[bool]":
        """The running daemon, once it has orders."""
        task = asyncio.create_task(self.daemon.run())
        await self.opens()
        await eventually(self.working)
        return task


async def within(seconds: float, done: "asyncio.Task[bool]") -> bool:
    async with asyncio.timeout(seconds):
        return await done


async def test_stop_cancels_and_waits_for_the_venue() -> None:
    bench = Bench("paper.entry_latency_ms_min=50")
    task = await bench.quoting()
    assert bench.snapshots == 1
    bench.daemon.stop("enough")
    bench.daemon.stop("too late")
    assert repr(bench.daemon).startswith("<Daemon stopping: enough turns=")
    assert await within(5, task) is True
    assert (bench.working(), bench.daemon.reason) == (0, "enough")
    assert bench.engine_run.summary.placed > 0
    assert all(began <= done for began, done in bench.batches)
    assert len(bench.batches) == bench.daemon.turns


async def test_nothing_is_placed_once_stopped() -> None:
    bench = Bench("paper.entry_latency_ms_min=50")
    task = await bench.quoting()
    bench.daemon.stop("enough")
    await eventually(lambda: bench.engine_run.summary.cancelled)
    placed = bench.engine_run.summary.placed
    bench.say(
        '{"e":"bookTicker","u":20,"s":"BTCUSDT","b":"59900.00","B":"1","a":"59900.10","A":"1"}'
    )
    await within(5, task)
    assert bench.engine_run.summary.placed == placed


async def test_stop_before_the_first_frame_ends_at_once() -> None:
    bench = Bench()
    bench.daemon.stop("never mind")
    assert await within(1, asyncio.create_task(bench.daemon.run())) is True


async def test_a_silent_venue_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STOP_NS_MAX", 100 * NS_PER_MS)
    bench = Bench()
    task = await bench.quoting()
    monkeypatch.setattr(Paper, "release", lambda *_: [])
    asked = bench.clock.now()
    bench.daemon.stop("enough")
    assert await within(5, task) is False
    assert bench.clock.now() - asked >= 100 * NS_PER_MS
    assert bench.working() > 0


@pytest.mark.parametrize("first", [lambda daemon: daemon.stop("enough"), lambda daemon: None])
async def test_who_gives_up_waits_for_nothing(
    first: Callable[[Daemon], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_NS", 3_600 * NS_PER_S)
    bench = Bench("paper.entry_latency_ms_min=3000", "engine.timer_ms=60000")
    task = await bench.quoting()
    first(bench.daemon)
    bench.daemon.give_up()
    assert await within(1, task) is False


async def test_the_loop_goes_round_when_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_NS", NS_PER_MS)
    bench = Bench()
    task = asyncio.create_task(bench.daemon.run())
    await eventually(lambda: bench.daemon.turns > 5)
    assert repr(bench.daemon).startswith("<Daemon trading turns=")
    bench.daemon.stop("enough")
    assert await within(1, task) is True


async def test_a_failure_of_the_pump_is_raised() -> None:
    bench = Bench()
    bench.engine_run.engine.decide = None  # type: ignore[method-assign,assignment]
    bench.daemon.stop("makes it decide")
    with pytest.raises(TypeError):
        await bench.daemon.run()
