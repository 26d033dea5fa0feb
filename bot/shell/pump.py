"""The pump: journal, learn, decide, journal, perform. The file to read second.

    chunk of frames -> journal -> codec -> rows
    rows            -> lane (book, paper venue) until somebody has to think
    reports due     -> journal -> engine.apply
    engine.decide   -> journal -> venue

`feed` runs in virtual time: the clock is the receive time of the frame under way, or the
deadline that lies before the next one. One frame is one batch; a deadline before the next
frame fires first; on ties the venue speaks before the engine decides.

`batch` and `wake` run live: a batch is what the inbox held, `now` is the clock.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol
from zlib import crc32

from numpy.typing import NDArray

from bot.core.engine import Engine
from bot.domain.decisions import Amend, Cancel, Decision, Place, Request, Resync, Trip
from bot.domain.events import Event, FeedEvent, FeedLost, FeedOpened, OwnEvent
from bot.domain.tape import LOST_DISCONNECT, LOST_OVERFLOW, Tape
from bot.journal.log import Decided, Learned, LogWriter
from bot.journal.segments import SegmentWriter
from bot.market.kernels import MOVED, TRUST
from bot.shell.inbox import OVERFLOW, Frame, Item
from bot.shell.lane import DUE, advance
from bot.sim.paper import NEVER
from bot.sim.queue import FILLED
from bot.venues.binance.marketdata import MarketData

RESYNCS_MAX: Final = 1_000  # in one chunk: a codec that loses every book at once is broken


def lost_cause(event: FeedLost) -> int:
    """The book's name (LOST_*) for why a feed was lost."""
    return LOST_OVERFLOW if event.cause == OVERFLOW else LOST_DISCONNECT


OnDecision = Callable[[int, Sequence[Decision], Engine], None]


class Venue(Protocol):
    """Where orders go: the paper venue, or a real one.

    What a paper venue says comes out of `release`; a real one speaks through the inbox. The
    attributes are the own orders in the queues of the book, as `shell/lane.py` takes them.
    """

    memory: NDArray[Any]
    n_slots: int
    model: int
    power: float

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        """Carry out what was decided at `now`, in this order."""
        ...

    def tripped(self) -> None:
        """A breaker tripped: nothing decided before may leave any more."""
        ...

    def due(self) -> int:
        """When something is to be released next; NEVER if nothing is."""
        ...

    def collect(self, now: int) -> None:
        """The lane filled own orders in the row received at `now`."""
        ...

    def release(self, now: int) -> Sequence[OwnEvent]:
        """Reports that are due at `now`."""
        ...


class Eyes(Protocol):
    """Who watches a run without taking part; `ops.summary` is one."""

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        ...

    def learned(self, event: Event | FeedEvent, engine: Engine) -> None:
        """An event other than a market frame was learned."""
        ...

    def decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        """A decision was made."""
        ...


class Pump:
    """Drives one engine, its codec and its venue over frames of the market.

    `segments` and `log` are the journal, both or neither. `rows_max` bounds how many rows
    one compiled call may take; 1 is the frame-by-frame path.
    """

    __slots__ = (
        "_codec",
        "_engine",
        "_eyes",
        "_inputs",
        "_log",
        "_now",
        "_on_decision",
        "_rows_max",
        "_segments",
        "_venue",
        "frames",
    )

    def __init__(
        self,
        engine: Engine,
        codec: MarketData,
        venue: Venue,
        *,
        segments: SegmentWriter | None = None,
        log: LogWriter | None = None,
        on_decision: OnDecision | None = None,
        eyes: Eyes,
        rows_max: int = 1 << 30,
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._venue = venue
        self._segments = segments
        self._log = log
        self._on_decision = on_decision
        self._rows_max = rows_max
        self._inputs = 0  # running crc32 of every frame learned
        self._now = 0
        self.frames = 0
        self._eyes = eyes

    def feed(self, chunk: bytes) -> None:
        """Whole capture lines in; everything that they make due is done on return."""
        if self._segments is not None:
            self._segments.append(chunk)
        resume = self._read(chunk)
        for _ in range(RESYNCS_MAX):
            if resume is None:
                return
            chunk = chunk[resume:]
            resume = self._read(chunk)
        raise AssertionError(f"{RESYNCS_MAX} resyncs in one chunk")

    def batch(self, items: Sequence[Item], now: int) -> None:
        """Live: what was drained from the inbox by `now`; all is learned, then one decision made.

        A change of trust, an own event or a lost feed closes the batch at once: the engine
        decides before it learns more.
        """
        self._now = max(self._now, now)
        moved = 0
        for item in items:
            if isinstance(item, Frame):
                moved |= self._receive(item)
            else:
                self._learn(item)
            if self._engine.urgent:
                self._decide(self._now)
                moved = 0
        self._wake(moved)

    def wake(self, now: int) -> None:
        """Live: let happen what is due at `now` without news from the market."""
        self._now = max(self._now, now)
        self._wake(0)

    def due(self) -> int | None:
        """Live: when to `wake` even if nothing happens; None before the first decision."""
        times = [self._engine.deadline(), self._codec.sync.deadline(), self._venue.due()]
        due = min((at for at in times if at is not None), default=NEVER)
        return None if due == NEVER else due

    def wants_snapshot(self, now: int) -> bool:
        """Live: whether to fetch a snapshot of the book now; a True counts as asked."""
        return self._codec.sync.take_snapshot_request(now)

    def _wake(self, flags: int) -> None:
        self._hear(0, self._now)
        if self._is_due(flags):
            self._decide(self._now)

    def _receive(self, frame: Frame) -> int:
        """Journal and learn one frame; MOVED or 0."""
        raw = frame.raw.replace(b"\n", b" ")
        line = b"%d %b\n" % (frame.recv, raw)
        if self._segments is not None:
            self._segments.append(line)
        self._inputs = crc32(line, self._inputs)
        moved = 0
        for tape in self._codec.receive(frame.recv, raw):
            i = 0
            while i < tape.n:
                until = self._venue.due()
                i, flags = self._advance(tape, i, until)
                # The venue acts on the book as it was then, not as the whole batch leaves it.
                self._hear(flags, until if flags == DUE else frame.recv)
                moved |= flags & MOVED
        return moved

    def _learn(self, event: Event | FeedEvent) -> None:
        """Journal and learn what is no market frame."""
        engine = self._engine
        if self._log is not None:
            self._log.append(Learned(self.frames, event))
        if isinstance(event, FeedLost):
            tape = self._codec.resync(event.at, lost_cause(event))
            if engine.learn(tape, 0) & TRUST:
                self._eyes.trust(event.at, False)
        elif not isinstance(event, FeedOpened) and not engine.apply(event):
            return  # told before
        self._eyes.learned(event, engine)

    def _read(self, chunk: bytes) -> int | None:
        """Offset to read again from after a resync, None at the end of the chunk."""
        for tape in self._codec.read(chunk):
            resume = self._run(tape)
            if resume is not None:
                return resume
        return None

    def _run(self, tape: Tape) -> int | None:
        engine, venue = self._engine, self._venue
        i = 0
        text_at = tape.text_from
        while i < tape.n:
            due = engine.deadline()
            until = venue.due() if due is None else min(due, venue.due())
            before = i
            i, flags = self._advance(tape, i, until)
            if i > before:
                row = tape.rows[i - 1]
                text_end = int(row["text_end"])
                self._inputs = crc32(memoryview(tape.text)[text_at:text_end], self._inputs)
                text_at = text_end
                self._now = max(self._now, int(row["recv"]))
            if flags == DUE:
                self._now = max(self._now, until)
            self._hear(flags, self._now)
            if self._is_due(flags) and self._decide(self._now):
                self._codec.unread(tape, i)
                return text_at
        return None

    def _advance(self, tape: Tape, i: int, until: int) -> tuple[int, int]:
        """Learn rows from `i`: the first row not learned, and why it stopped there."""
        venue = self._venue
        i, frames, flags = advance(
            self._engine.book.memory,
            tape.memory,
            i,
            min(tape.n, i + self._rows_max),
            tape.ticks,
            tape.qtys,
            until,
            venue.memory,
            venue.n_slots,
            venue.model,
            venue.power,
        )
        self.frames += frames
        return i, flags

    def _hear(self, flags: int, at: int) -> None:
        """What the rows and the reports due at `at` mean for the engine."""
        engine, venue = self._engine, self._venue
        if flags & FILLED:
            venue.collect(at)
        if flags & TRUST:
            engine.urgent = True
            self._eyes.trust(at, engine.book.trusted)
        for event in venue.release(at):
            if self._log is not None:
                self._log.append(Learned(self.frames, event))
            if engine.apply(event):
                self._eyes.learned(event, engine)

    def _is_due(self, flags: int) -> bool:
        due = self._engine.deadline()
        timer = due is not None and self._now >= due
        return bool(self._engine.urgent or flags & MOVED or timer)

    def _decide(self, now: int) -> bool:
        """Decide and act; True when the book was thrown away."""
        decisions = self._engine.decide(now)
        if self._log is not None:
            self._log.append(Decided(self.frames, now, self._inputs, decisions))
            if decisions:
                self._log.flush()  # what is not journalled is not sent
        self._eyes.decided(now, decisions, self._engine)
        if self._on_decision is not None:
            self._on_decision(now, decisions, self._engine)
        if any(isinstance(decision, Trip) for decision in decisions):
            self._venue.tripped()
        requests = [one for one in decisions if isinstance(one, Place | Amend | Cancel)]
        if requests:
            self._venue.perform(now, requests)
        lost = any(isinstance(decision, Resync) for decision in decisions)
        if lost:
            tape = self._codec.resync(now)
            if self._engine.learn(tape, 0) & TRUST:
                self._eyes.trust(now, False)
        return lost

    @property
    def now(self) -> int:
        """The virtual clock, ns."""
        return self._now

    def __repr__(self) -> str:
        waiting = "nothing" if self._venue.due() == NEVER else "reports"
        return f"<Pump frame {self.frames} at {self._now} waiting for {waiting}>"
