"""`mmbot run`: the daemon, on paper or at a venue, from its configuration to its exit code."""

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any, Final

import structlog

from bot.core.engine import Engine
from bot.domain.events import FeedLost, FeedOpened
from bot.domain.instrument import Instrument
from bot.domain.units import DAY_NS, NS_PER_S
from bot.domain.view import View
from bot.journal.segments import retire
from bot.modes.account import Account, open_account
from bot.modes.enginerun import EngineRun, new_run
from bot.modes.execution import Execution
from bot.modes.preflight import EXIT_UNREACHABLE, Finding, PreflightRefused
from bot.modes.reload import Reload
from bot.modes.runreport import RunReport
from bot.modes.settings import ConfigError, Loaded
from bot.modes.start import on_venue_terms
from bot.modes.terms import with_amends, with_instrument
from bot.modes.warmup import warm
from bot.ops.eyes import Eye
from bot.ops.journalist import Journalist
from bot.ops.metrics import Metrics
from bot.ops.rundb import RunDb, RunDbError
from bot.ops.web import Readiness, Web, listen, readiness
from bot.shell.clock import Clock
from bot.shell.daemon import Daemon
from bot.shell.feed import Feed
from bot.shell.feedlimits import FeedLimits
from bot.shell.inbox import Inbox
from bot.shell.loop import run as run_loop
from bot.shell.probe import probe_loop
from bot.shell.pump import Venue
from bot.shell.signals import stop_signals
from bot.shell.supervisor import Supervisor
from bot.shell.takeover import Previous
from bot.venues.binance.endpoints import Endpoints, endpoints
from bot.venues.binance.ids import new_prefix

FRAMES_MAX: Final = 50_000  # about a minute of the busiest real stream
BYTES_MAX: Final = 64 << 20
SAMPLE_S: Final = 1.0
LATE_NS: Final = NS_PER_S // 2  # a loop that is so late is not fit to have orders rest
TRIES: Final = 2  # to trade, and after a failure to cancel
HOUSEKEEPING_S: Final = 60.0

EXIT_DONE: Final = 0
EXIT_BROKEN: Final = 1
EXIT_INTERRUPTED: Final = 130

OnSample = Callable[["LiveRun", View], None]


class LiveRun:
    """Everything that one live run consists of; `go` runs it, `result` tells what it was.

    `account` is where its orders go, None for paper. `listener` is the socket of its pages, None
    for a run without; `eyes` watch beside the run's own; `on_sample` is called every `sample_s`;
    `seed` is for the manifest; `reread` is the file that the configuration came from and what
    loads it anew, None where changes do not count; `limits` replace the feed's, which otherwise
    follow from the configuration; `remarks` of the preflight are logged. Raises ConfigError for a
    configuration that cannot run, PreflightRefused for one that may not, JournalError and
    RunDbError for a folder that cannot be written.
    """

    def __init__(
        self,
        loaded: Loaded,
        account: Account | None = None,
        *,
        listener: socket | None = None,
        eyes: tuple[Eye[Engine], ...] = (),
        on_sample: OnSample | None = None,
        sample_s: float = SAMPLE_S,
        seed: int = 0,
        reread: tuple[Path, Callable[[], Loaded]] | None = None,
        limits: FeedLimits | None = None,
        remarks: Sequence[Finding] = (),
    ) -> None:
        settings = loaded.settings
        assert (account is None) is (settings.mode == "paper"), "orders go where the mode says"
        where, derived = source(loaded)
        runs = Path(settings.run.folder)
        self.clock = Clock()
        self.log = structlog.get_logger()
        prefix = new_prefix(self.clock.run_id())
        venue = None  # of paper
        self._remarks = remarks
        self._skipped: list[str] = []  # earlier runs that tell nothing
        if account is not None:
            loaded = with_amends(loaded)
            previous = account.previous(runs, self.clock.now(), self._skipped.append)
            venue = partial(self._real_venue, account, previous, prefix)
        self.loaded = loaded
        self.folder = new_run(loaded, runs, self.clock.now(), settings.mode, seed)
        self.metrics = Metrics(loaded.instrument)
        self.db = RunDb(self.folder.database, loaded.instrument, on_failure=self._database_failed)
        self.inbox = Inbox(self.clock, frames_max=FRAMES_MAX, bytes_max=BYTES_MAX)
        self.supervisor = Supervisor(self._broke)
        self.execution: Execution | None = None
        self.rebuilt: Instrument | None = None  # what the venue made of the instrument
        self.engine_run = EngineRun(
            loaded,
            self.folder,
            mode=settings.mode,
            started_at=self.clock.now(),
            prefix=prefix,
            seed=seed,
            eyes=(self.metrics, self.db, Journalist(self.log, loaded.instrument), self, *eyes),
            venue=venue,
        )
        self.feed = Feed(where, self.inbox, self.clock, limits or derived)
        self.daemon = Daemon(
            self.engine_run.engine,
            self.engine_run.pump,
            self.inbox,
            self.clock,
            self.feed.request_snapshot,
            self._batch_done,
        )
        self.reload: Reload | None = None
        if reread is not None:
            path, again = reread
            self.reload = Reload(path, loaded, self.inbox, self.clock, again)
        self.report = RunReport(self.engine_run, self.feed, self.inbox, self.clock)
        self.web_port: int | None = None
        self.code = EXIT_DONE
        self._lag = 0  # of the event loop, ns, as last measured
        self._listener = listener
        self._interrupts = 0
        self._on_sample = on_sample
        self._sample_s = sample_s
        self._decisions = 0
        self._connected = asyncio.Event()
        self._connections: set[str] = set()

    def _real_venue(
        self, account: Account, previous: Previous | None, prefix: str, engine: Engine
    ) -> Venue:
        """Where the orders of `engine` go when they are real."""
        self.execution = Execution(
            self.loaded,
            account,
            previous,
            self.folder,
            engine,
            prefix,
            self.inbox,
            self.clock,
            late=lambda: self._lag > LATE_NS,
            broke=self._broke,
            guard=self.supervisor.do,
            stop=self.stop,
            rebuild=self._rebuild,
        )
        return self.execution.venue

    # --- an eye of its own ----------------------------------------------------------------

    def trust(self, now: int, trusted: bool) -> None:
        """Nothing of interest."""

    def learned(self, event: object, engine: Engine) -> None:
        """Keep count of the feed's connections."""
        if isinstance(event, FeedOpened):
            self._connections.add(event.connection)
            self._connected.set()
        elif isinstance(event, FeedLost):
            self._connections.discard(event.connection)

    def decided(self, now: int, decisions: object, engine: Engine) -> None:
        """Count, so that a batch knows whether it decided."""
        self._decisions += 1

    # --- the run --------------------------------------------------------------------------

    async def go(self, seconds: float | None = None) -> int:
        """Trade until told to stop, or for so many seconds; returns the exit code.

        Whatever breaks is logged, every order is cancelled, and the code is EXIT_BROKEN. Only
        to be called once, on the main thread; nothing that it started is left on return.
        """
        web = Web(health=self._health, ready=self._ready, exposition=self.metrics.exposition)
        with stop_signals(self._signalled):
            try:
                if self._listener is not None:
                    self.web_port = await web.serve(self._listener)
                self.log.info("run_started", folder=str(self.folder.path), web_port=self.web_port)
                for remark in self._remarks:
                    self.log.warning("preflight", what=remark.name, finding=remark.text)
                for why in self._skipped:
                    self.log.warning("earlier_run_skipped", why=why)
                for job in self._jobs(seconds):
                    self.supervisor.start(job)
                if not await self._trade():
                    orders = repr(self.engine_run.engine.orders)
                    self.log.error("orders_unconfirmed", orders=orders)
                    if self._is_patient():  # else it was wanted so
                        self.code = EXIT_BROKEN
            finally:
                await self.supervisor.close()
                if self.execution is not None:
                    await self.execution.close()
                await web.stop()
                self._close()
        return self.code

    def _jobs(self, seconds: float | None) -> Iterator[Coroutine[Any, Any, None]]:
        yield self.feed.run()
        yield probe_loop(self.clock, self._lagged)
        yield self._sampling()
        yield self._housekeeping()
        yield self._patience(self.loaded.settings.feed.patience_s)
        if seconds is not None:
            yield self._stop_after(seconds)
        if self.reload is not None:
            yield self.reload.watch()
        if self.execution is not None:
            yield from self.execution.jobs()

    async def _trade(self) -> bool:
        """Trade until stopped; whether every own order is gone. Broken once, it only cancels."""
        confirmed = None
        for _ in range(TRIES):
            confirmed = await self.supervisor.attempt(self.daemon.run())
            if confirmed is not None:
                break
        if self.execution is None:
            return bool(confirmed)
        # Whatever we believe, the venue is asked: only its word is a proof.
        empty = await self.supervisor.attempt(self.execution.finish(self._is_patient))
        self.supervisor.do(self.daemon.settle)
        return bool(empty)

    def _is_patient(self) -> bool:
        """Whether nobody has pressed Ctrl-C twice."""
        return self._interrupts < 2

    def _broke(self, failure: Exception) -> None:
        """Half a bot is none: what fails ends the run."""
        self.log.error("failed", exc_info=failure)
        self.stop("internal error", EXIT_BROKEN)

    def stop(self, reason: str, code: int = EXIT_DONE) -> None:
        """Cancel every order, then end: with the first `code` but 0, or EXIT_BROKEN if it came."""
        if self.code == EXIT_DONE or code == EXIT_BROKEN:
            self.code = code
        self.daemon.stop(reason)

    def _rebuild(self, instrument: Instrument) -> None:
        """Ticks or lots are others: this engine cannot go on; the next one can."""
        self.rebuilt = instrument
        self.stop("the venue changed the instrument")

    def _signalled(self, name: signal.Signals) -> None:
        self.log.info("signal", name=name.name)
        if name is signal.SIGINT:
            self._interrupts += 1
        self.stop(name.name, EXIT_INTERRUPTED if name is signal.SIGINT else EXIT_DONE)
        if not self._is_patient():
            self.daemon.give_up()

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stop(f"ran for {seconds:g} s")

    async def _patience(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._connected.wait()
        except TimeoutError:
            self.log.error("venue_unreachable", after_s=seconds, refused=self.feed.stats().refused)
            self.stop("the venue cannot be reached", EXIT_UNREACHABLE)

    def _lagged(self, ns: int) -> None:
        self._lag = ns
        self.report.loop_lag.add(ns)
        self.metrics.observe_loop_lag(max(0, ns))

    def _batch_done(self, began: int, done: int) -> None:
        if self.execution is not None:
            self.execution.turned(self.daemon.turns)
        if self._decisions:
            self.report.work.add(done - began)
            self.metrics.observe_decide(done - began)
            self._decisions = 0

    async def _sampling(self) -> None:
        while True:
            await asyncio.sleep(self._sample_s)
            view = self.engine_run.engine.view(levels=16)
            segments = self.engine_run.segments
            assert segments is not None
            segments.pass_on()  # a crash loses a second of market data at most
            self.db.sample(view)
            heard = int(self.engine_run.engine.book.head[0]["recv"])
            self.metrics.sample(
                view,
                feed_age_ns=max(0, self.clock.now() - (heard or self.report.started_at)),
                inbox_length=len(self.inbox),
                dropped_frames=self.inbox.dropped,
                tasks=len(asyncio.all_tasks()),
            )
            self.report.tell_obstacles()
            if self._on_sample is not None:
                self._on_sample(self, view)

    async def _housekeeping(self) -> None:
        days = self.loaded.settings.run.market_days
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            if days:
                for path in retire(self.folder.journal, self.clock.now() - days * DAY_NS):
                    self.log.info("segment_retired", path=str(path))

    def _database_failed(self, failure: RunDbError) -> None:
        self.log.error("database_failed", error=str(failure))

    def _health(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "turns": self.daemon.turns,
            "uptime_s": (self.clock.now() - self.report.started_at) / NS_PER_S,
        }

    def _ready(self) -> Readiness:
        others = [] if self._connections else ["feed not connected"]
        if self.daemon.reason:
            others.append(f"stopping: {self.daemon.reason}")
        if not self.engine_run.engine.book.trusted:
            others += [f"{name} ({n})" for name, n in sorted(self.report.obstacles().items())]
        return readiness(self.engine_run.engine.view(), others)

    def _close(self) -> None:
        reason = self.daemon.reason or "cancelled"
        self.supervisor.do(lambda: self.engine_run.close(reason))
        self.db.note(self.clock.now(), "stopped", {"reason": reason, "code": self.code})
        self.supervisor.do(self.db.close)
        self.log.info("run_ended", reason=reason, code=self.code, folder=str(self.folder.path))

    @property
    def connections(self) -> int:
        """How many connections of the feed are open."""
        return len(self._connections)

    def result(self) -> dict[str, Any]:
        """What `--json` prints: as a replay does, and how the run itself was."""
        return self.report.result(self.daemon.reason)


def feed_limits(loaded: Loaded) -> FeedLimits:
    """The feed's limits, with the silences that the breakers know too."""
    risk = loaded.settings.risk
    silence_ms = math.ceil(risk.silence_all_ms)
    return FeedLimits(silence_ms=silence_ms, depth_frozen_ms=math.ceil(risk.silence_ms))


def source(loaded: Loaded) -> tuple[Endpoints, FeedLimits]:
    """Where a run listens and with which limits.

    ConfigError where it cannot run like that, PreflightRefused where it may not.
    """
    settings = loaded.settings
    if settings.mode == "live":
        raise PreflightRefused("live is refused: the kill switch is not complete")
    try:
        limits = feed_limits(loaded)
        feed = settings.feed
        where = endpoints(settings.venue, settings.symbol, feed.world, base=feed.base_url)
        limits.check(where)
    except ValueError as mistake:
        raise ConfigError(f"feed: {mistake}") from mistake
    return where, limits


@contextmanager
def pages_socket(loaded: Loaded) -> Iterator[socket | None]:
    """The socket of a run's pages, had before anything is written; None if there are to be none.

    Raises ConfigError for a host that is not loopback and WebError for a port that is taken.
    """
    web = loaded.settings.web
    if not web.enabled:
        yield None
        return
    try:
        listener = listen(web.host, web.port)
    except ValueError as mistake:
        raise ConfigError(f"web.host: {mistake}") from mistake
    with listener:
        yield listener


def run(
    loaded: Loaded,
    path: Path,
    again: Callable[[], Loaded],
    seconds: float | None = None,
    hide: Callable[[str], None] = lambda secret: None,
) -> tuple[int, dict[str, Any]]:
    """One run from start to end on an event loop of its own: (exit code, result).

    `hide` is told what no log line may show. Raises what `LiveRun`, `pages_socket`,
    `open_account` and `on_venue_terms` raise.
    """
    source(loaded)  # a mistake is told before anything is compiled

    async def main(account: Account | None) -> tuple[int, dict[str, Any]]:
        return await run_on(loaded, account, path, again, seconds)

    with pages_socket(loaded):
        pass  # a port that is taken is told before anything is compiled
    with contextlib.ExitStack() as held:
        account = open_account(loaded)
        if account is not None:
            held.enter_context(account)
            hide(account.access.credentials.api_key)
            hide(account.access.credentials.secret)
        warm()  # nothing compiles while quoting
        return run_loop(main(account))


async def run_on(
    loaded: Loaded,
    account: Account | None,
    path: Path,
    again: Callable[[], Loaded],
    seconds: float | None,
) -> tuple[int, dict[str, Any]]:
    """Run until it is stopped, beginning anew whenever the venue changes the instrument."""
    clock = Clock()
    left = seconds
    while True:
        there, remarks = loaded, list[Finding]()
        if account is not None:
            there = await on_venue_terms(loaded, account, clock, remarks.append)

        def reread(there: Loaded = there) -> Loaded:
            return with_instrument(again(), there.instrument, there.fees)

        began = clock.now()
        with pages_socket(loaded) as listener:
            live = LiveRun(
                there,
                account,
                listener=listener,
                reread=(path, again if account is None else reread),
                remarks=remarks,
            )
            code = await live.go(left)
        if live.rebuilt is None or code != EXIT_DONE:
            return code, live.result()
        if left is not None:
            left = max(0.0, left - (clock.now() - began) / NS_PER_S)
