"""`mmbot demo`: the simulated exchange in a process of its own, and the bot trading on it.

Everything between the two goes over real sockets on loopback. The exchange ends when this
process does, however it ends: it watches the pipe that is its standard input.
"""

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop
from msgspec.structs import replace
from rich.console import Console

from bot.domain.view import View
from bot.modes.run import EXIT_BROKEN, LiveRun
from bot.modes.settings import Loaded
from bot.modes.warmup import warm
from bot.ops.logs import set_up
from bot.ops.terminal import Terminal
from bot.ops.terminal import picture as draw
from bot.ops.terminal_screen import Screen, Vitals
from bot.ops.terminal_ticker import EventTicker
from bot.shell.clock import Clock

SERVER_S_MAX: Final = 30.0
SERVER_STOP_S_MAX: Final = 5.0
PICTURE: Final = (120, 36)  # columns and lines
FRAME_S: Final = 0.25  # between two pictures


class DemoError(Exception):
    """The demo cannot run; one sentence says why."""


async def start_exchange(arguments: Sequence[str]) -> tuple[Process, str]:
    """Start `mmbot serve`; returns the process and its URL. Raises DemoError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "serve", "--with-parent", "--json", *arguments,
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(SERVER_S_MAX):
            line = await process.stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        await stop_exchange(process)
        raise DemoError("the simulated exchange did not start: try `mmbot serve` by itself")
    return process, str(json.loads(line)["url"])


async def stop_exchange(process: Process) -> None:
    """End it by closing its standard input, by force when that does not help."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(SERVER_STOP_S_MAX):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def vitals(live: LiveRun, view: View, label: str, scenario: str, *, simulated: bool) -> Vitals:
    """How a run is doing, for the terminal."""
    summary, feed = live.paper.summary, live.feed.stats()
    seconds = (live.clock.now() - live.started_at) / 1e9
    loop_lag = live.loop_lag.quantile(0.99)
    p50, p99 = live.work.quantile(0.5), live.work.quantile(0.99)
    return Vitals(
        venue=label,
        simulated=simulated,
        scenario=scenario,
        run_s=seconds,
        feed_lag_ms=view.age_ns / 1e6,
        decide_p50_us=None if p50 is None else p50 / 1e3,
        decide_p99_us=None if p99 is None else p99 / 1e3,
        loop_lag_p99_ms=None if loop_lag is None else loop_lag / 1e6,
        frames_per_s=live.paper.pump.frames / seconds if seconds > 0 else 0.0,
        placed=summary.placed,
        cancelled=summary.cancelled,
        fills=summary.fills,
        two_sided=summary.uptime(view.now),
        connections=live.connections,
        reconnects=max(feed.connects - 1, 0),
        gaps=live.paper.codec.gaps,
        resyncs=max(live.paper.codec.sync.resyncs - 1, 0),
        halts=len(summary.halts),
    )


class Painter:
    """Draws a run as it goes; nothing at all where the console is no terminal."""

    def __init__(self, loaded: Loaded, console: Console, scenario: str, *, simulated: bool) -> None:
        self.ticker = EventTicker(loaded.instrument)
        self.terminal = Terminal(console)
        self.last: Screen | None = None  # with quotes on it
        self._loaded = loaded
        self._scenario = scenario
        self._simulated = simulated

    def screen(self, live: LiveRun, view: View) -> Screen:
        """What is to be seen now."""
        label = self._loaded.settings.venue.replace("-", " ")
        return Screen(
            view,
            self._loaded.instrument,
            vitals(live, view, label, self._scenario, simulated=self._simulated),
            self._loaded.params.risk.max_position_lots,
            self.ticker.events,
        )

    def paint(self, live: LiveRun, view: View) -> None:
        """Draw, unless the last picture is too fresh."""
        if view.trusted and view.orders:
            self.last = self.screen(live, view)
        self.terminal.update(self.screen(live, view))


def on_exchange(loaded: Loaded, url: str) -> Loaded:
    """The configuration, pointed at a simulated exchange."""
    feed = loaded.settings.feed.model_copy(update={"base_url": url})
    return replace(loaded, settings=loaded.settings.model_copy(update={"feed": feed}))


def demo(
    loaded: Loaded,
    *,
    scenario: str,
    seed: int,
    seconds: float | None,
    show: bool,
    picture: Path | None = None,
) -> tuple[int, dict[str, Any]]:
    """Run the demo; (exit code, result). Raises DemoError and whatever a run raises.

    `show` draws it on the terminal, `picture` is a file for the last screen as SVG.
    """
    console = Console(stderr=False, force_terminal=None if show else False)
    painter = Painter(loaded, console, scenario, simulated=True)

    async def main() -> tuple[int, dict[str, Any]]:
        arguments = ["--venue", loaded.settings.venue, "--symbol", loaded.settings.symbol]
        arguments += ["--scenario", scenario, "--seed", str(seed)]
        starting = asyncio.create_task(start_exchange(arguments))
        await asyncio.sleep(0)
        await asyncio.to_thread(warm)  # nothing compiles while quoting
        process, url = await starting
        try:
            return await trade(on_exchange(loaded, url), painter, seconds, show)
        finally:
            await stop_exchange(process)

    done = uvloop.run(main())
    if picture is not None and painter.last is not None:
        picture.write_text(draw(painter.last, *PICTURE), encoding="utf-8")
    return done


async def trade(
    loaded: Loaded, painter: Painter, seconds: float | None, show: bool
) -> tuple[int, dict[str, Any]]:
    """The bot's half of the demo, its log in the run's folder."""
    live = LiveRun(
        loaded,
        eyes=(painter.ticker,),
        on_sample=painter.paint,
        sample_s=FRAME_S if show else 1.0,
    )
    clock = Clock()
    path = Path(live.folder.path) / "bot.log"
    with path.open("w", encoding="utf-8") as file:
        logs = set_up(loaded.settings.run.log_level, now=clock.now, stream=file, console=False)
        try:
            if show:
                painter.terminal.start()
            code = await live.go(seconds)
        finally:
            painter.terminal.stop()
            logs.close()
    result = live.result()
    assert code != EXIT_BROKEN or result["reason"], "a broken run says why"
    return code, result
