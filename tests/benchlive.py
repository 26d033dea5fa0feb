"""What `make bench` measures of a running bot: over loopback sockets, from process to process."""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.core.engine import Engine  # noqa: E402 - run as a script: the path comes first
from bot.domain.decisions import Decision  # noqa: E402
from bot.journal.capture import chunks  # noqa: E402
from bot.modes.demo import ExchangeProcess  # noqa: E402
from bot.modes.enginerun import EngineRun  # noqa: E402
from bot.modes.run import feed_limits  # noqa: E402
from bot.modes.settings import Loaded, load  # noqa: E402
from bot.modes.yamlsource import ENV_API_KEY, ENV_SECRET  # noqa: E402
from bot.shell.clock import Clock  # noqa: E402
from bot.shell.daemon import Daemon  # noqa: E402
from bot.shell.feed import Feed  # noqa: E402
from bot.shell.inbox import Inbox  # noqa: E402
from bot.shell.loop import run as run_loop  # noqa: E402
from bot.venues.binance.endpoints import endpoints  # noqa: E402

CONFIG: Final = ROOT / "config" / "paper-binance-usdm.yaml"
DEMO: Final = ROOT / "config" / "demo.yaml"
FRAMES: Final = 6_000  # as many as any capture must have
FRAMES_PER_S: Final = 600  # faster than recorded: slower would look like a feed that ages
FIRST_QUOTE_S_MAX: Final = 60.0

clock = time.monotonic_ns  # one clock for every process of a machine


# --- the sender's process -------------------------------------------------------------------


async def send(capture: Path) -> None:
    """Serve the capture's first frames at a steady beat; print when each was sent, ns."""
    frames = [line.split(b" ", 1)[1].rstrip(b"\n") for line in first_lines(capture)]
    sent: list[int] = []
    done = asyncio.Event()

    async def feed(socket: ServerConnection) -> None:
        due = clock()
        for frame in frames:
            due += 1_000_000_000 // FRAMES_PER_S
            await asyncio.sleep(max(0, due - clock()) / 1e9)
            sent.append(clock())
            await socket.send(frame, text=True)
        await asyncio.sleep(0.5)
        done.set()

    async with serve_sockets(feed, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await done.wait()
        sys.stdout.write(json.dumps(sent) + "\n")
        sys.stdout.flush()


def first_lines(capture: Path) -> list[bytes]:
    """The frames that are sent, as capture lines."""
    return next(chunks([capture], 16 << 20)).splitlines(keepends=True)[:FRAMES]


# --- the bot's side -------------------------------------------------------------------------


class Stopwatch:
    """Notes when a decision was made, by the oldest frame that its batch had learned."""

    def __init__(self) -> None:
        self.engine_run: EngineRun | None = None
        self.seen = 0  # frames learned before this batch
        self.decided_at: list[tuple[int, int, bool]] = []

    def trust(self, now: int, trusted: bool) -> None:
        """Not of interest."""

    def learned(self, event: object, engine: Engine) -> None:
        """Not of interest."""

    def decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        """A decision: note it if a frame led to it."""
        assert self.engine_run is not None
        if self.engine_run.pump.frames > self.seen:
            self.decided_at.append((self.seen, clock(), bool(decisions)))

    def batch_done(self, began: int, done: int) -> None:
        """Forget the batch."""
        assert self.engine_run is not None
        self.seen = self.engine_run.pump.frames


async def _receive(loaded: Loaded, port: int) -> list[tuple[int, int, bool]]:
    watch = Stopwatch()
    run = watch.engine_run = EngineRun(loaded, eyes=(watch,), mode="paper")
    now = Clock()
    inbox = Inbox(now, frames_max=10_000, bytes_max=64 << 20)
    settings = loaded.settings
    where = endpoints(settings.venue, settings.symbol, base=f"http://127.0.0.1:{port}")
    # The capture's depth stream has another speed in its name than the one asked for.
    limits = replace(feed_limits(loaded), depth_frozen_ms=0)
    feed = Feed(where, inbox, now, limits)
    daemon = Daemon(run.engine, run.pump, inbox, now, lambda: None, watch.batch_done)
    listening = asyncio.create_task(feed.run())
    running = asyncio.create_task(daemon.run())
    while run.pump.frames < FRAMES:  # noqa: ASYNC110 - an event would be measured, too
        await asyncio.sleep(0.1)
    daemon.stop("enough")
    await running
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    return watch.decided_at


def wire_to_wire(capture: Path) -> dict[str, list[float]]:
    """From a frame's send in another process to the decision, µs; and of those with orders."""
    command = [sys.executable, __file__, "--send", str(capture)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        port = int(sender.stdout.readline())
        decided = run_loop(_receive(load(CONFIG, env={}), port))
        sent = json.loads(sender.stdout.readline())
    warm = FRAMES // 10
    times = [((at - sent[i]) / 1e3, acted) for i, at, acted in decided if i >= warm]
    return {
        "wire_to_decision": [each for each, _ in times],
        "wire_to_order": [each for each, acted in times if acted],
    }


def first_quote() -> dict[str, float]:
    """From the command to the first order, s: of a demo, and of `run` on paper and with orders.

    What the memory of `run` came to at most, MB, in both modes.
    """
    began = time.time_ns()
    with tempfile.TemporaryDirectory() as folder:
        demo = _mmbot(["demo", "--seconds", "8"], folder)
        found = {"start_to_first_quote_s": (_first_placed(demo) - began) / 1e9}
    exchange = ["--venue", "binance-usdm", "--symbol", "BTCUSDT", "--maker-bp=-0.5"]
    with ExchangeProcess(exchange) as process:
        served = process.served()
        there = ["--set", f"feed.base_url={served.url}"]
        keys = {ENV_API_KEY: served.keys.api_key, ENV_SECRET: served.keys.secret}
        for mode, suffix in (("testnet", ""), ("paper", "_paper")):
            with tempfile.TemporaryDirectory() as folder:
                command = ["run", str(DEMO), "--seconds", "6", "--set", f"mode={mode}", *there]
                began = time.time_ns()
                result = _mmbot(command, folder, keys)
                first = _first_placed(result)
            found[f"run_to_first_quote{suffix}_s"] = (first - began) / 1e9
            found[f"rss_run{suffix}_mb"] = result["rss_mb"]
    return found


def _mmbot(command: Sequence[str], folder: str, keys: Mapping[str, str] | None = None) -> Any:
    """Run a command to its end, its runs in `folder`: its result."""
    whole = [sys.executable, "-m", "bot", *command, "--json"]
    whole += ["--set", f"run.folder={folder}", "--set", "web.port=0"]
    env = {**os.environ, **(keys or {}), "XDG_STATE_HOME": f"{folder}/state"}
    done = subprocess.run(
        whole, check=True, capture_output=True, text=True, cwd=ROOT, env=env,
        timeout=FIRST_QUOTE_S_MAX,
    )  # fmt: skip
    return json.loads(done.stdout)


def _first_placed(result: Mapping[str, Any]) -> int:
    with sqlite3.connect(Path(result["run"]) / "run.db") as database:
        (placed,) = database.execute("select min(placed_ns) from orders").fetchone()
    assert placed is not None, "not an order was placed"
    return int(placed)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--send", type=Path, required=True)
    asyncio.run(send(arguments.parse_args().send))
