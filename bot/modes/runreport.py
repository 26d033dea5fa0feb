"""What a live run tells of itself: how late it was, what is in its way, what it amounted to."""

import resource
import sys
from pathlib import Path
from typing import Any, Final

import structlog

from bot.domain.units import MINUTE_NS, NS_PER_MS, NS_PER_S
from bot.modes.enginerun import EngineRun
from bot.shell.clock import Clock
from bot.shell.feed import Feed
from bot.shell.inbox import Inbox
from bot.shell.probe import Durations

QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
STATUS: Final = Path("/proc/self/status")  # what the kernel says of this process, where it does


class RunReport:
    """One live run in numbers, from now on; `loop_lag` and `work` are filled by the run."""

    def __init__(self, run: EngineRun, feed: Feed, inbox: Inbox, clock: Clock) -> None:
        self._run = run
        self._feed = feed
        self._inbox = inbox
        self._clock = clock
        self._log = structlog.get_logger()
        self._told: dict[str, int] = {}
        self._told_at = 0
        self.started_at = clock.now()
        self.loop_lag = Durations()
        self.work = Durations()  # of a batch in which something was decided

    def obstacles(self) -> dict[str, int]:
        """What keeps a book from being built, and how often it did."""
        counts, feed = self._run.codec.counts(), self._feed.stats()
        found = {f"snapshot: {cause}": n for cause, n in feed.snapshot_failures.items()}
        found |= {f"connection: {cause}": n for cause, n in feed.refused.items()}
        unreadable = counts["unreadable"] + counts["unreadable_depth"]
        return found | ({"unreadable frames": unreadable} if unreadable else {})

    def tell_obstacles(self) -> None:
        """Log what is new among them at once, and all that changed once a minute."""
        found, now = self.obstacles(), self._clock.now()
        new = found.keys() - self._told.keys()
        if new or (found != self._told and now - self._told_at > MINUTE_NS):
            self._told, self._told_at = found, now
            self._log.warning(
                "no_book_yet" if not self._run.engine.book.trusted else "obstacles",
                **{name.replace(": ", "_"): n for name, n in sorted(found.items())},
            )

    def trusted_share(self) -> float:
        """Share of the run's time in which the book was trusted."""
        summary, now = self._run.summary, self._run.pump.now
        if summary.first_trusted_ns is None or now <= self.started_at:
            return 0.0
        trusted = now - summary.first_trusted_ns - summary.untrusted_ns
        return trusted / (now - self.started_at)

    def result(self, reason: str) -> dict[str, Any]:
        """What `--json` prints of a run that ended for this reason: programs rely on its keys."""
        feed = self._feed.stats()
        self._run.wall_s = (self._clock.now() - self.started_at) / NS_PER_S
        return {
            **self._run.result(),
            "trusted_share": self.trusted_share(),
            "reason": reason,
            "reconnects": max(feed.connects - 1, 0),
            "feed_drops": feed.drops,
            "snapshots": feed.snapshots,
            "dropped_frames": self._inbox.dropped,
            "rss_mb": rss_mb(),
            "batch_us": quantiles(self.work, 1_000),
            "loop_lag_ms": quantiles(self.loop_lag, NS_PER_MS),
        }


def quantiles(durations: Durations, unit_ns: int) -> dict[str, float | None]:
    """The quantiles of durations in a unit of so many ns; None while there are no durations."""
    found = {name: durations.quantile(q) for name, q in QUANTILES.items()}
    return {name: None if ns is None else ns / unit_ns for name, ns in found.items()}


def rss_mb() -> float:
    """Peak resident memory of this process, MB.

    The kernel's own figure where there is one: `ru_maxrss` of a child starts at its parent's.
    """
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)
