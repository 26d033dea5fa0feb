"""A whole run in this process, against the simulated exchange over real sockets."""

import asyncio
import gc
import os
import signal
import sqlite3
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.core.triggers import Severity, Verdict
from bot.domain.units import Side
from bot.domain.view import View
from bot.journal.capture import JournalError
from bot.journal.log import Closed, read_log
from bot.journal.segments import SegmentWriter
from bot.modes import run as module
from bot.modes.audit import audit
from bot.modes.demo import on_exchange
from bot.modes.run import LiveRun, feed_limits, pages_socket, source
from bot.modes.serve import new_server
from bot.modes.settings import ConfigError, Loaded, load
from bot.modes.warmup import warm
from bot.ops.rundb import RunDb, RunDbError
from bot.ops.web import WebError
from bot.shell.clock import Clock
from bot.shell.pump import Pump
from tests.shell.wire import descriptors

DEMO = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"
END_S = 10.0

Until = Callable[[LiveRun, View], None]


@pytest.fixture(scope="module", autouse=True)
def warmed() -> None:
    warm()


class Bench:
    """Makes runs on an exchange of their own, and looks at what is left of them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.lines: list[Any] = []

    def loaded(self, *sets: str) -> Loaded:
        basic = [f"run.folder={self.folder}", "web.port=0", "mode=paper"]
        basic += ["paper.entry_latency_ms_max=20"]
        return on_exchange(load(DEMO, env={}, sets=[*basic, *sets]), self.url)

    async def go(
        self, until: Until | None = None, *sets: str, seconds: float | None = None
    ) -> tuple[int, LiveRun]:
        """Run until `until`, asked often, does something about it."""
        loaded = self.loaded(*sets)
        before = (asyncio.all_tasks(), self.threads(), self.signals())
        with pages_socket(loaded) as listener, capture_logs() as self.lines:
            live = LiveRun(loaded, listener=listener, on_sample=until, sample_s=0.02)
            async with asyncio.timeout(END_S):
                code = await live.go(seconds)
        assert (asyncio.all_tasks(), self.threads(), self.signals()) == before
        return code, live

    @staticmethod
    def threads() -> set[str]:
        """Of our own: those of the loop's executor wait for the next work."""
        names = {thread.name for thread in threading.enumerate()}
        return {name for name in names if not name.startswith("asyncio")}

    @staticmethod
    def signals() -> list[Any]:
        return [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]

    def said(self, level: str) -> list[str]:
        return [line["event"] for line in self.lines if line["log_level"] == level]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    instrument = load(DEMO, env={}).instrument
    async with new_server(instrument, Clock()) as server:
        yield Bench(tmp_path, f"http://127.0.0.1:{server.port}")


def working(live: LiveRun) -> int:
    return sum(len(live.engine_run.engine.orders.working(side)) for side in Side)


def once_quoting(act: Callable[[LiveRun], object]) -> Until:
    """Act once, when orders rest."""
    acted: list[bool] = []

    def until(live: LiveRun, view: View) -> None:
        if not acted and any(order.state == "LIVE" for order in view.orders):
            acted.append(True)
            act(live)

    return until


def kill(name: signal.Signals) -> Callable[[LiveRun], None]:
    return lambda live: os.kill(os.getpid(), name)


def closed(live: LiveRun) -> Closed:
    *_, last = read_log(live.folder.log)
    assert isinstance(last, Closed)
    return last


def fetched(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def test_sigterm_is_a_clean_stop(bench: Bench) -> None:
    pages: dict[str, tuple[int, bytes]] = {}

    async def look_then_stop(live: LiveRun) -> None:
        for page in ("healthz", "readyz", "metrics"):
            url = f"http://127.0.0.1:{live.web_port}/{page}"
            pages[page] = await asyncio.to_thread(fetched, url)
        os.kill(os.getpid(), signal.SIGTERM)

    gc.collect()
    before = descriptors()
    code, live = await bench.go(
        once_quoting(lambda live: live.supervisor.start(look_then_stop(live)))
    )
    gc.collect()
    assert descriptors() <= before + 1  # the server may not have seen every socket close
    assert (code, live.daemon.reason, working(live)) == (0, "SIGTERM", 0)
    assert {page: status for page, (status, _) in pages.items()} == {
        "healthz": 200,
        "readyz": 200,
        "metrics": 200,
    }
    assert closed(live).reason == "SIGTERM"
    found = audit(live.folder.path)
    assert (found["ok"], found["closed"]) == (True, True)
    result = live.result()
    assert (result["decisions"], result["frames"]) == (found["decisions"], found["frames"])
    pnl = {name: Decimal(value) for name, value in result["pnl"].items()}
    gains = ("spread", "inventory", "rebates", "funding", "unexplained")
    costs = ("maker_fees", "taker_fees")
    assert pnl["total"] == sum(pnl[n] for n in gains) - sum(pnl[n] for n in costs)
    assert 0 < result["trusted_share"] <= 1
    with sqlite3.connect(live.folder.path / "run.db") as db:
        states = {state for (state,) in db.execute("SELECT state FROM orders")}
        stops = db.execute("SELECT detail FROM events WHERE kind = 'stopped'").fetchall()
    db.close()
    assert states <= {"CANCELLED", "FILLED", "REJECTED"}
    assert [detail for (detail,) in stops] == ['{"code":0,"reason":"SIGTERM"}']
    assert bench.said("error") == []
    assert bench.said("info").count("run_started") == bench.said("info").count("run_ended") == 1


async def test_sigint_is_130_and_a_second_one_waits_for_nothing(bench: Bench) -> None:
    code, live = await bench.go(once_quoting(kill(signal.SIGINT)))
    assert (code, live.daemon.reason, working(live)) == (130, "SIGINT", 0)

    def twice(live: LiveRun) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        asyncio.get_running_loop().call_later(0.02, os.kill, os.getpid(), signal.SIGINT)

    slow = ["paper.entry_latency_ms_min=3000", "paper.entry_latency_ms_max=3000"]
    started: list[float] = []

    def until(live: LiveRun, view: View) -> None:
        if view.orders and not started:
            started.append(asyncio.get_running_loop().time())
            twice(live)

    code, live = await bench.go(until, *slow)
    assert asyncio.get_running_loop().time() - started[0] < 2.0
    assert (code, live.daemon.reason) == (130, "SIGINT")
    assert working(live) > 0
    assert bench.said("error") == ["orders_unconfirmed"]
    assert audit(live.folder.path)["ok"]


async def test_orders_without_a_last_word_are_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.shell.daemon.STOP_NS_MAX", 50_000_000)
    slow = ["paper.entry_latency_ms_min=3000", "paper.entry_latency_ms_max=3000"]
    told: list[bool] = []

    def until(live: LiveRun, view: View) -> None:
        if view.orders and not told:
            told.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    code, _ = await bench.go(until, *slow)
    assert code == 1
    assert bench.said("error") == ["orders_unconfirmed"]


def failing(times: int, monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[LiveRun], None]:
    """From now on a method of the pump fails so many times."""
    left = [times]
    was = getattr(Pump, name)

    def instead(self: Pump, *args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ValueError("injected")
        return was(self, *args)

    return lambda live: monkeypatch.setattr(Pump, name, instead)


@pytest.mark.parametrize("name", ["_receive", "_decide"])
async def test_a_failure_of_the_pump_cancels_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, live = await bench.go(once_quoting(failing(1, monkeypatch, name)))
    assert (code, working(live)) == (1, 0)
    assert live.result()["reason"] == "internal error"
    assert bench.said("error") == ["failed"]
    (line,) = [line for line in bench.lines if line["event"] == "failed"]
    assert str(line["exc_info"]) == "injected"
    assert closed(live).reason == "internal error"


async def test_a_pump_that_fails_for_good_does_not_hang(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, live = await bench.go(once_quoting(failing(1_000_000, monkeypatch, "_decide")))
    assert code == 1
    assert bench.said("error") == ["failed", "failed", "orders_unconfirmed"]
    assert closed(live).reason == "internal error"


async def test_a_failure_of_a_helper_cancels_everything(bench: Bench) -> None:
    def breaks(live: LiveRun) -> None:
        raise OSError("the terminal has gone")

    code, live = await bench.go(once_quoting(breaks))
    assert (code, working(live), live.result()["reason"]) == (1, 0, "internal error")
    assert bench.said("error") == ["failed"]
    assert audit(live.folder.path)["ok"]


async def test_a_disk_that_fills_up_is_an_internal_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fill(live: LiveRun) -> None:
        monkeypatch.setattr(SegmentWriter, "_write", full)

    code, live = await bench.go(once_quoting(fill))
    assert (code, live.daemon.reason) == (1, "internal error")
    assert "failed" in bench.said("error")


@pytest.mark.parametrize(
    ("what", "error"),
    [((SegmentWriter, "close"), JournalError("torn")), ((RunDb, "close"), RunDbError("busy"))],
)
async def test_what_fails_at_the_end_is_told_and_the_rest_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: tuple[Any, str], error: Exception
) -> None:
    was = getattr(*what)

    def closes(self: Any) -> None:
        was(self)
        raise error

    monkeypatch.setattr(*what, closes)
    code, live = await bench.go(seconds=0.0)
    assert (code, live.daemon.reason) == (1, "ran for 0 s")
    assert bench.said("error") == ["failed"]


async def test_a_venue_that_is_not_there(bench: Bench) -> None:
    sets = ["feed.patience_s=1.0"]
    bench.url = "http://127.0.0.1:9"
    code, live = await bench.go(None, *sets)
    assert (code, live.daemon.reason) == (5, "the venue cannot be reached")
    (line,) = [line for line in bench.lines if line["log_level"] == "error"]
    assert line["event"] == "venue_unreachable"
    assert line["refused"]["unreachable"] >= 1
    assert audit(live.folder.path)["ok"]


async def test_the_worst_code_stands(bench: Bench) -> None:
    loaded = bench.loaded()
    live = LiveRun(loaded, seed=11)
    assert live.folder.read_manifest()["seed"] == 11
    live.stop("a", module.EXIT_DONE)
    live.stop("b", module.EXIT_INTERRUPTED)
    live.stop("c", module.EXIT_UNREACHABLE)
    assert live.code == module.EXIT_INTERRUPTED
    live.stop("d", module.EXIT_BROKEN)
    live.stop("e", module.EXIT_INTERRUPTED)
    assert (live.code, live.daemon.reason) == (module.EXIT_BROKEN, "a")
    assert await live.go() == module.EXIT_BROKEN


async def test_a_latched_halt_is_told_by_the_exit_code(bench: Bench) -> None:
    live = LiveRun(bench.loaded())
    live.engine_run.engine.breakers.latch(Verdict(Severity.HALTED, "operator", {}))
    assert await live.go(0.3) == module.EXIT_KILLED


async def test_a_port_that_is_taken(bench: Bench) -> None:
    with pages_socket(bench.loaded()) as first:
        assert first is not None
        port = first.getsockname()[1]
        taken = pages_socket(bench.loaded(f"web.port={port}"))
        with pytest.raises(WebError, match=rf"^127.0.0.1:{port} is taken"):
            taken.__enter__()
    assert first.fileno() == -1
    with pages_socket(bench.loaded("web.enabled=false")) as none:
        assert none is None
    with pytest.raises(ConfigError, match=r"^web.host: '0.0.0.0' is not a loopback"):
        pages_socket(bench.loaded("web.host=0.0.0.0")).__enter__()
    assert list(bench.folder.iterdir()) == []


@pytest.mark.parametrize("base", ["nonsense", "ftp://x", "http://"])
def test_where_nothing_can_be_heard(base: str) -> None:
    with pytest.raises(ConfigError, match=r"^feed: "):
        source(on_exchange(load(DEMO, env={}), base))


def test_the_feed_keeps_the_silences_of_the_breakers() -> None:
    loaded = load(DEMO, env={}, sets=["risk.silence_ms=700", "risk.silence_all_ms=900"])
    limits = feed_limits(loaded)
    assert (limits.depth_frozen_ms, limits.silence_ms) == (700, 900)
