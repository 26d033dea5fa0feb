"""`mmbot record`: what a venue sends, as capture files.

    inbox -> line -> segments
                  -> codec, exactly as a replay of the files will read it

The codec is what asks for snapshots: at the start, and wherever the stream's ids have a gap.
A lost connection as such changes nothing, because no capture tells of one; what it cost shows
in the ids. So what is a gap here is a gap in the replay, and the snapshot that ends it there
is in the files.
"""

import asyncio
import signal
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final

import structlog

from bot.domain.events import FeedLost, FeedOpened
from bot.domain.units import NS_PER_S
from bot.journal.capture import JournalError
from bot.journal.run import run_name
from bot.journal.segments import SEGMENT_BYTES, SegmentWriter
from bot.modes.enginerun import new_codec
from bot.modes.preflight import EXIT_UNREACHABLE
from bot.modes.run import (
    BYTES_MAX,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    FRAMES_MAX,
    feed_limits,
)
from bot.modes.settings import ConfigError, Loaded
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.daemon import BATCH_MAX
from bot.shell.feed import Feed
from bot.shell.inbox import Frame, Inbox, Item
from bot.shell.loop import run as run_loop
from bot.venues.binance.endpoints import endpoints

FLUSH_NS: Final = NS_PER_S // 2  # between two: a crash loses less than a second
# A file that is read alone, and a replay that threw its book away, find a new book so often.
SNAPSHOT_NS: Final = 600 * NS_PER_S


class Recording:
    """One recording; `go` runs it, `result` tells what it amounted to.

    Files are named by the start, the venue and the symbol and stand in `out`, which is made
    if need be; none is ever overwritten. Raises ConfigError for a configuration without a
    feed, JournalError for a folder that cannot be written.
    """

    def __init__(self, loaded: Loaded, out: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        settings = loaded.settings
        feed = settings.feed
        try:
            where = endpoints(settings.venue, settings.symbol, feed.world, base=feed.base_url)
            limits = feed_limits(loaded)
        except ValueError as mistake:
            raise ConfigError(f"feed: {mistake}") from mistake
        self.clock = Clock()
        self.started_at = self.clock.now()
        self.inbox = Inbox(self.clock, frames_max=FRAMES_MAX, bytes_max=BYTES_MAX)
        self.feed = Feed(where, self.inbox, self.clock, limits)
        self.codec = new_codec(loaded.instrument)
        make_writable(out)
        stem = run_name(self.started_at, settings.venue, settings.symbol)
        self.segments = SegmentWriter(out, segment_bytes, stem=stem)
        self.frames = 0
        self.bytes = 0
        self.reason = ""
        self.code = EXIT_DONE
        self._log = structlog.get_logger()
        self._patience_s = feed.patience_s
        self._connected = False
        self._ended_at = self.started_at
        self._flush_at = self.started_at
        self._snapshot_at = self.started_at + SNAPSHOT_NS
        self._stopped = asyncio.Event()

    async def go(self, seconds: float | None = None) -> int:
        """Record until told to stop, or for so many seconds; returns the exit code.

        Raises JournalError when the files cannot be written any more.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, self._signalled, name)
        timers = [loop.call_later(self._patience_s, self._lose_patience)]
        if seconds is not None:
            timers.append(loop.call_later(seconds, self.stop, f"recorded for {seconds:g} s"))
        self._log.info("recording_started", folder=str(self.segments.folder))
        jobs = [
            asyncio.create_task(job)
            for job in (self.feed.run(), self._take_all(), self._stopped.wait())
        ]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in timers:
                timer.cancel()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(name)
            self._close()
        for job in jobs:
            if not job.cancelled():
                job.result()
        self._log.info("recording_ended", reason=self.reason, code=self.code)
        return self.code

    def stop(self, reason: str, code: int = EXIT_DONE) -> None:
        """End with `code`; the first reason stands."""
        if not self._stopped.is_set():
            self.reason, self.code = reason, code
            self._stopped.set()

    def _signalled(self, name: signal.Signals) -> None:
        self.stop(name.name, EXIT_INTERRUPTED if name is signal.SIGINT else EXIT_DONE)

    def _lose_patience(self) -> None:
        if not self._connected:
            refused = self.feed.stats().refused
            self._log.error("venue_unreachable", after_s=self._patience_s, refused=refused)
            self.stop("the venue cannot be reached", EXIT_UNREACHABLE)

    async def _take_all(self) -> None:
        while True:
            due = self.codec.sync.deadline()
            await self.inbox.wait(self._flush_at if due is None else min(due, self._flush_at))
            for item in self.inbox.drain(BATCH_MAX):
                self._take(item)
            self._tend(self.clock.now())

    def _take(self, item: Item) -> None:
        if isinstance(item, Frame):
            self._write(item.recv, item.raw.replace(b"\n", b" "))
        elif isinstance(item, FeedOpened):
            self._connected = True
            self._log.info("feed_opened", connection=item.connection)
        elif isinstance(item, FeedLost):
            self._log.warning("feed_lost", cause=item.cause, connection=item.connection)

    def _write(self, recv: int, raw: bytes) -> None:
        self.segments.append(b"%d %b\n" % (recv, raw))
        self.frames += 1
        self.bytes += len(raw)
        gaps = self.codec.gaps
        for _ in self.codec.receive(recv, raw):
            pass  # only whether the ids continue is of interest
        if self.codec.gaps > gaps:
            self._log.warning("gap", gaps=self.codec.gaps)

    def _tend(self, now: int) -> None:
        """Ask for the snapshot that is wanted, and pass on what is due."""
        if self.codec.sync.take_snapshot_request(now) or now >= self._snapshot_at:
            self.feed.request_snapshot()
            self._snapshot_at = now + SNAPSHOT_NS
        if now >= self._flush_at:
            self.segments.pass_on()
            self._flush_at = now + FLUSH_NS

    def _close(self) -> None:
        """Take what was received up to the end, and close the file."""
        try:
            for item in self.inbox.drain(len(self.inbox)):
                self._take(item)
        finally:
            self._ended_at = self.clock.now()
            self.segments.close()

    @property
    def files(self) -> list[Path]:
        """The files so far, in order."""
        return sorted(self.segments.folder.glob(f"{self.segments.stem}-*.zst"))

    def result(self) -> dict[str, Any]:
        """What `--json` prints; programs rely on its keys. `bytes` are those of raw frames."""
        feed, counts = self.feed.stats(), self.codec.counts()
        return {
            "frames": self.frames,
            "bytes": self.bytes,
            "compressed_bytes": sum(path.stat().st_size for path in self.files),
            "depth_updates": counts["depth_updates"],
            "trades": counts["trades"],
            "book_tickers": counts["book_tickers"],
            "unreadable": counts["unreadable"] + counts["unreadable_depth"],
            "gaps": self.codec.gaps,
            "snapshots": counts["snapshots"],
            "in_sequence": self.codec.sync.synced,
            "reconnects": max(feed.connects - 1, 0),
            "feed_drops": feed.drops,
            "dropped_frames": self.inbox.dropped,
            "seconds": round((self._ended_at - self.started_at) / NS_PER_S, 3),
            "reason": self.reason,
            "files": [str(path) for path in self.files],
        }

    def __repr__(self) -> str:
        return f"<Recording frames={self.frames} {self.codec!r} {self.segments!r}>"


def make_writable(folder: Path) -> None:
    """Make a folder if need be, and find out whether it takes files. Raises JournalError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise JournalError(f"{folder} cannot be written: {error.strerror}") from error


def record(loaded: Loaded, out: Path, seconds: float | None = None) -> tuple[int, dict[str, Any]]:
    """One recording from start to end on an event loop of its own: (exit code, result)."""
    warm()  # nothing compiles while frames arrive

    async def main() -> tuple[int, dict[str, Any]]:
        recording = Recording(loaded, out)
        code = await recording.go(seconds)
        return code, recording.result()

    return run_loop(main())
