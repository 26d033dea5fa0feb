"""What a live run tells of itself, from parts that stand still."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from bot.domain.units import MINUTE_NS, NS_PER_MS, NS_PER_S
from bot.modes import runreport
from bot.modes.runreport import RunReport, quantiles, rss_mb
from bot.shell.feed import FeedStats
from bot.shell.probe import Durations

T0 = 1_700_000_000 * NS_PER_S


class Parts:
    """A run whose numbers are written down."""

    def __init__(self) -> None:
        self.now = T0
        self.feed = FeedStats(0, {}, {}, 0, 0, 0, {}, 0, {})
        self.counts: Counter[str] = Counter()
        self.book = SimpleNamespace(trusted=False)
        self.summary = SimpleNamespace(first_trusted_ns=None, untrusted_ns=0)
        self.engine_run: Any = SimpleNamespace(
            codec=SimpleNamespace(counts=lambda: self.counts),
            engine=SimpleNamespace(book=self.book),
            summary=self.summary,
            pump=SimpleNamespace(now=T0),
            result=lambda: {"frames": 7},
            wall_s=0.0,
        )
        feed: Any = SimpleNamespace(stats=lambda: self.feed)
        inbox: Any = SimpleNamespace(dropped=3)
        clock: Any = SimpleNamespace(now=lambda: self.now)
        self.report = RunReport(self.engine_run, feed, inbox, clock)

    def told(self) -> list[dict[str, Any]]:
        """What one look logs."""
        with capture_logs() as lines:
            self.report.tell_obstacles()
        return list(lines)


def test_obstacles_are_counted_by_cause() -> None:
    parts = Parts()
    assert parts.report.obstacles() == {}
    parts.feed = replace(parts.feed, snapshot_failures={"429": 2}, refused={"unreachable": 5})
    parts.counts.update(unreadable=1, unreadable_depth=3, depth_updates=9)
    assert parts.report.obstacles() == {
        "snapshot: 429": 2,
        "connection: unreachable": 5,
        "unreadable frames": 4,
    }


def test_a_new_obstacle_is_told_at_once_and_a_growing_one_once_a_minute() -> None:
    parts = Parts()
    assert parts.told() == []
    parts.feed = replace(parts.feed, refused={"unreachable": 1})
    (line,) = parts.told()
    assert (line["event"], line["connection_unreachable"]) == ("no_book_yet", 1)
    parts.feed = replace(parts.feed, refused={"unreachable": 2})
    assert parts.told() == []
    parts.counts["unreadable"] = 1  # another cause waits for nothing
    (line,) = parts.told()
    assert (line["connection_unreachable"], line["unreadable frames"]) == (2, 1)
    parts.book.trusted = True
    parts.counts["unreadable"] = 2
    parts.now += MINUTE_NS
    assert parts.told() == []
    parts.now += 1
    (line,) = parts.told()
    assert (line["event"], line["unreadable frames"]) == ("obstacles", 2)
    parts.now += 2 * MINUTE_NS
    assert parts.told() == []  # nothing has changed


def test_the_share_of_time_with_a_book() -> None:
    parts = Parts()
    parts.engine_run.pump.now = T0 + 10 * NS_PER_S
    assert parts.report.trusted_share() == 0.0
    parts.summary.first_trusted_ns = T0 + 2 * NS_PER_S
    parts.summary.untrusted_ns = 3 * NS_PER_S
    assert parts.report.trusted_share() == 0.5
    parts.engine_run.pump.now = T0  # nothing was heard since the run began
    assert parts.report.trusted_share() == 0.0


def test_the_result_is_the_engines_and_how_the_run_was() -> None:
    parts = Parts()
    parts.feed = replace(parts.feed, connects=3, drops={"stale": 2}, snapshots=4)
    parts.now += 5 * NS_PER_S
    parts.report.loop_lag.add(2 * NS_PER_MS)
    result = parts.report.result("SIGTERM")
    assert parts.engine_run.wall_s == 5.0
    assert result.pop("rss_mb") > 1
    assert result == {
        "frames": 7,
        "trusted_share": 0.0,
        "reason": "SIGTERM",
        "reconnects": 2,
        "feed_drops": {"stale": 2},
        "snapshots": 4,
        "dropped_frames": 3,
        "batch_us": dict.fromkeys(("p50", "p99", "p99.9", "max")),
        "loop_lag_ms": dict.fromkeys(("p50", "p99", "p99.9", "max"), 2.0),
    }


def test_a_run_that_never_connected_did_not_reconnect() -> None:
    assert Parts().report.result("x")["reconnects"] == 0


def test_quantiles_are_in_the_unit_that_was_asked_for() -> None:
    durations = Durations()
    for us in range(1, 1_001):
        durations.add(us * 1_000)
    found = quantiles(durations, 1_000)
    assert found["max"] == 1_000.0
    assert found["p50"] == pytest.approx(500, rel=0.27)  # the class's upper edge
    assert quantiles(durations, NS_PER_MS)["max"] == 1.0


def test_memory_is_the_kernels_figure_or_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t   100000 kB\nVmRSS:\t   90000 kB\n")
    monkeypatch.setattr(runreport, "STATUS", status)
    assert rss_mb() == 102.4
    monkeypatch.setattr(runreport, "STATUS", tmp_path / "none")
    peak = SimpleNamespace(ru_maxrss=200_000)
    monkeypatch.setattr(runreport.resource, "getrusage", lambda who: peak)
    for platform, mb in (("linux", 204.8), ("darwin", 0.2)):
        monkeypatch.setattr(runreport.sys, "platform", platform)
        assert rss_mb() == mb
