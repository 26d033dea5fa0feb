"""`mmbot demo`: the simulated exchange in a process of its own, and the bot trading on it.

Everything between the two goes over real sockets on loopback. The exchange ends when this
process does, however it ends: it watches the pipe that is its standard input.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from select import select
from socket import socket
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple, Self

from msgspec.structs import replace
from rich.console import Console

from bot.domain.view import View
from bot.modes.account import Account
from bot.modes.preflight import Finding
from bot.modes.run import EXIT_BROKEN, SAMPLE_S, LiveRun, pages_socket, source
from bot.modes.serve import flow_params
from bot.modes.settings import Loaded
from bot.modes.start import on_venue_terms
from bot.modes.warmup import warm
from bot.ops.logs import set_up
from bot.ops.terminal import Terminal
from bot.ops.terminal import picture as draw
from bot.ops.terminal_screen import Screen, Vitals
from bot.ops.terminal_ticker import EventTicker
from bot.shell.clock import Clock
from bot.shell.loop import run as run_loop
from bot.shell.peer import Credentials

SERVER_S_MAX: Final = 30.0
SERVER_STOP_S_MAX: Final = 5.0
PICTURE: Final = (120, 36)  # columns and lines
FRAME_S: Final = 0.25  # between two pictures


class DemoError(Exception):
    """The demo cannot run; one sentence says why."""


class Served(NamedTuple):
    """A simulated exchange: its address, and the keys of the account there, empty without one."""

    url: str
    keys: Credentials


class ExchangeProcess:
    """`mmbot serve` in a process of its own, for as long as the context holds."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._complaints = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = Popen(  # noqa: S603 - this program itself, without a shell
            [sys.executable, "-m", "bot", "serve", "--with-parent", "--json", *arguments],
            stdin=PIPE,
            stdout=PIPE,
            stderr=self._complaints,
            start_new_session=True,  # a Ctrl-C is for the bot, whose orders go first
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def served(self) -> Served:
        """What it serves, once it does. Raises DemoError when it does not in SERVER_S_MAX."""
        assert self._process.stdout is not None
        ready, _, _ = select([self._process.stdout], [], [], SERVER_S_MAX)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise DemoError(f"the simulated exchange did not start: {self.last_words()}")
        note = json.loads(line)
        keys = Credentials(note.get("api_key", ""), note.get("secret", ""))
        return Served(str(note["url"]), keys)

    def fileno(self) -> int:
        """Readable once the process has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def last_words(self) -> str:
        """The last line on its stderr."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else f"it said nothing for {SERVER_S_MAX:g} s"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it by closing its standard input, by force when that does not help."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(SERVER_STOP_S_MAX)
        except TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()
            self._complaints.close()


def vitals(live: LiveRun, view: View, label: str, scenario: str, *, simulated: bool) -> Vitals:
    """How a run is doing, for the terminal."""
    summary, feed = live.engine_run.summary, live.feed.stats()
    seconds = (live.clock.now() - live.report.started_at) / 1e9
    loop_lag = live.report.loop_lag.quantile(0.99)
    p50, p99 = live.report.work.quantile(0.5), live.report.work.quantile(0.99)
    return Vitals(
        venue=label,
        simulated=simulated,
        scenario=scenario,
        run_s=seconds,
        feed_lag_ms=view.age_ns / 1e6,
        decide_p50_us=None if p50 is None else p50 / 1e3,
        decide_p99_us=None if p99 is None else p99 / 1e3,
        loop_lag_p99_ms=None if loop_lag is None else loop_lag / 1e6,
        frames_per_s=live.engine_run.pump.frames / seconds if seconds > 0 else 0.0,
        placed=summary.placed,
        cancelled=summary.cancelled,
        fills=summary.fills,
        two_sided=summary.uptime(view.now),
        connections=live.connections,
        reconnects=max(feed.connects - 1, 0),
        gaps=live.engine_run.codec.gaps,
        resyncs=max(live.engine_run.codec.sync.resyncs - 1, 0),
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
        """Draw, unless the last picture is too fresh; a screen with quotes is kept in `last`."""
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
    """Run the demo; (exit code, result). Raises DemoError and whatever `run` raises.

    `show` draws it on the terminal, `picture` is a file for the last screen as SVG.
    """
    settings = loaded.settings
    flow_params(settings.venue, scenario)  # mistakes are told before anything is started
    source(loaded)
    if picture is not None and not picture.parent.is_dir():
        raise DemoError(f"{picture.parent} is no folder: --picture wants one that exists")
    arguments = ["--venue", settings.venue, "--symbol", settings.symbol]
    arguments += ["--scenario", scenario, "--seed", str(seed)]
    arguments += [f"--maker-bp={settings.fees.maker_bp}", f"--taker-bp={settings.fees.taker_bp}"]
    console = Console(stderr=False, force_terminal=None if show else False)
    painter = Painter(loaded, console, scenario, simulated=True)
    with ExitStack() as held:
        listener = held.enter_context(pages_socket(loaded))
        exchange = held.enter_context(ExchangeProcess(arguments))
        warm()  # nothing compiles while quoting
        served = exchange.served()
        there = on_exchange(loaded, served.url)
        account = None
        if settings.mode != "paper":
            account = held.enter_context(Account(there, served.keys, os.environ))
        run = trade(there, account, exchange, painter, listener, seed, seconds, show=show)
        done = run_loop(run)
    if picture is not None and painter.last is not None:
        try:
            picture.write_text(draw(painter.last, *PICTURE), encoding="utf-8")
        except OSError as error:
            raise DemoError(f"{picture} cannot be written: {error.strerror}") from error
    return done


async def trade(
    loaded: Loaded,
    account: Account | None,
    exchange: ExchangeProcess,
    painter: Painter,
    listener: socket | None,
    seed: int,
    seconds: float | None,
    *,
    show: bool,
) -> tuple[int, dict[str, Any]]:
    """The bot's half of the demo, its log in the run's folder; ends if the exchange does."""
    remarks: list[Finding] = []
    if account is not None:
        loaded = await on_venue_terms(loaded, account, Clock(), remarks.append)
    live = LiveRun(
        loaded,
        account,
        listener=listener,
        eyes=(painter.ticker,),
        on_sample=painter.paint,
        sample_s=FRAME_S if show else SAMPLE_S,
        seed=seed,
        remarks=remarks,
    )
    loop = asyncio.get_running_loop()

    def exchange_ended() -> None:
        loop.remove_reader(exchange)
        live.log.error("exchange_ended", last_words=exchange.last_words())
        live.stop("the simulated exchange has ended", EXIT_BROKEN)

    path = live.folder.path / "bot.log"
    with path.open("w", encoding="utf-8") as file:
        level = loaded.settings.run.log_level
        logs = set_up(level, now=live.clock.now, stream=file, console=False)
        try:
            live.log.info("exchange_started", pid=exchange.pid, url=loaded.settings.feed.base_url)
            loop.add_reader(exchange, exchange_ended)
            if show:
                painter.terminal.start()
            code = await live.go(seconds)
        finally:
            loop.remove_reader(exchange)
            painter.terminal.stop()
            logs.close()
    return code, live.result()
