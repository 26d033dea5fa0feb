"""Runs the daemon against the simulated exchange for long, and shows that nothing grows.

    python tests/soak.py --seconds 3600 --speed 5

Memory, tasks, descriptors and the loop's lag are read every ten seconds; slopes are fitted
behind the first fifth, in which caches fill. Prints a table and one JSON object.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.domain.view import View  # noqa: E402 - run as a script: the path comes first
from bot.modes.demo import ExchangeProcess, on_exchange  # noqa: E402
from bot.modes.run import LiveRun, pages_socket  # noqa: E402
from bot.modes.settings import load  # noqa: E402
from bot.modes.warmup import warm  # noqa: E402
from bot.ops.logs import set_up  # noqa: E402
from bot.shell.loop import run as run_loop  # noqa: E402

EVERY_S: Final = 10
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def rss_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


class Soak:
    """What was read, second by second."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []
        self._turns = 0

    def sample(self, live: LiveRun, view: View) -> None:
        """One reading in ten calls."""
        self._turns += 1
        if self._turns % EVERY_S:
            return
        self.samples.append(
            {
                "s": (live.clock.now() - live.report.started_at) / 1e9,
                "rss_mb": rss_mb(),
                "tasks": len(asyncio.all_tasks()),
                "fds": len(os.listdir("/proc/self/fd")),
                "inbox": len(live.inbox),
                "fills": live.engine_run.summary.fills,
            }
        )
        last = self.samples[-1]
        if self._turns % (EVERY_S * 30) == 0:
            sys.stderr.write(json.dumps(last) + "\n")

    def slopes(self) -> dict[str, float]:
        """Growth per hour of what must not grow, behind the first fifth."""
        rest = self.samples[len(self.samples) // 5 :]
        hours = np.array([one["s"] for one in rest]) / 3_600
        return {
            name: float(np.polyfit(hours, [one[name] for one in rest], 1)[0])
            for name in ("rss_mb", "tasks", "fds", "inbox")
        }


def soak(seconds: float, speed: float, folder: str) -> dict[str, Any]:
    """The run; its result with the slopes."""
    sets = [f"run.folder={folder}", "risk.loss_budget=1e9"]  # a loss must not end the load
    loaded = load(ROOT / "config" / "demo.yaml", env={}, sets=sets)
    readings = Soak()
    with pages_socket(loaded) as listener, ExchangeProcess(["--speed", str(speed)]) as exchange:
        warm()
        there = on_exchange(loaded, exchange.served().url)

        async def trade() -> tuple[int, dict[str, Any]]:
            live = LiveRun(there, listener=listener, on_sample=readings.sample)
            return await live.go(seconds), live.result()

        code, result = run_loop(trade())
    first, last = readings.samples[len(readings.samples) // 5], readings.samples[-1]
    return {
        "exit": code,
        "seconds": result["wall_s"],
        "speed": speed,
        "slope_per_hour": readings.slopes(),
        "first": first,
        "last": last,
        "most": {name: max(one[name] for one in readings.samples) for name in first},
        **{
            name: result[name]
            for name in (
                "frames", "fills", "decisions", "gaps", "resyncs", "reconnects", "dropped_frames",
                "trusted_share", "uptime", "pnl", "halts", "batch_us", "loop_lag_ms",
            )
        },
    }  # fmt: skip


def main() -> None:
    """Parse, soak, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3_600)
    parser.add_argument("--speed", type=float, default=5)
    asked = parser.parse_args()
    set_up("error", now=time.time_ns)
    with tempfile.TemporaryDirectory() as folder:
        found = soak(asked.seconds, asked.speed, folder)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
