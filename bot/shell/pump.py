"""The pump: journal, learn, decide, journal, perform. The file to read second.

    chunk of frames -> journal -> codec -> rows
    rows            -> lane (book, paper venue) until somebody has to think
    reports due     -> journal -> engine.apply
    engine.decide   -> journal -> paper venue

Virtual time: the clock is the receive time of the frame under way, or the deadline that
lies before the next one. One frame is one batch; a deadline before the next frame fires
first; on ties the venue speaks before the engine decides.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol
from zlib import crc32

from bot.core.engine import Engine
from bot.domain.decisions import Cancel, Decision, Place, Resync
from bot.domain.events import OwnEvent
from bot.domain.tape import Tape
from bot.journal.log import Decided, Learned, LogWriter
from bot.journal.segments import SegmentWriter
from bot.market.kernels import MOVED, TRUST
from bot.shell.lane import DUE, advance
from bot.sim.paper import NEVER, Paper
from bot.sim.queue import FILLED
from bot.venues.binance.marketdata import MarketData

RESYNCS_MAX: Final = 1_000  # in one chunk: a codec that loses every book at once is broken

OnDecision = Callable[[int, Sequence[Decision], Engine], None]


class Eyes(Protocol):
    """Who watches a run without taking part; `ops.summary` is one."""

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        ...

    def learned(self, event: OwnEvent, engine: Engine) -> None:
        """An own event was applied."""
        ...

    def decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        """A decision was made."""
        ...


class Pump:
    """Drives one engine, its codec and its paper venue over capture lines.

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
        "_paper",
        "_rows_max",
        "_segments",
        "frames",
    )

    def __init__(
        self,
        engine: Engine,
        codec: MarketData,
        paper: Paper,
        *,
        segments: SegmentWriter | None = None,
        log: LogWriter | None = None,
        on_decision: OnDecision | None = None,
        eyes: Eyes,
        rows_max: int = 1 << 30,
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._paper = paper
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

    def _read(self, chunk: bytes) -> int | None:
        """Offset to read again from after a resync, None at the end of the chunk."""
        for tape in self._codec.read(chunk):
            resume = self._run(tape)
            if resume is not None:
                return resume
        return None

    def _run(self, tape: Tape) -> int | None:
        engine, paper = self._engine, self._paper
        i = 0
        text_at = tape.text_from
        while i < tape.n:
            due = engine.deadline()
            until = paper.due() if due is None else min(due, paper.due())
            stop = min(tape.n, i + self._rows_max)
            before = i
            i, frames, flags = advance(
                engine.book.memory,
                tape.memory,
                i,
                stop,
                tape.ticks,
                tape.qtys,
                until,
                paper.memory,
                paper.n_slots,
                paper.model,
                paper.power,
            )
            if i > before:
                self.frames += frames
                row = tape.rows[i - 1]
                text_end = int(row["text_end"])
                self._inputs = crc32(memoryview(tape.text)[text_at:text_end], self._inputs)
                text_at = text_end
                self._now = max(self._now, int(row["recv"]))
            if flags == DUE:
                self._now = max(self._now, until)
            if self._think(flags):
                self._codec.unread(tape, i)
                return text_at
        return None

    def _think(self, flags: int) -> bool:
        """Reports, then a decision if one is due; True when the book must be resynced."""
        engine, paper, now = self._engine, self._paper, self._now
        if flags & FILLED:
            paper.collect(now)
        if flags & TRUST:
            engine.urgent = True
            self._eyes.trust(now, engine.book.trusted)
        for event in paper.release(now):
            if self._log is not None:
                self._log.append(Learned(self.frames, event))
            engine.apply(event)
            self._eyes.learned(event, engine)
        due = engine.deadline()
        timer = due is not None and now >= due
        if not (engine.urgent or flags & MOVED or timer):
            return False
        return self._decide(now)

    def _decide(self, now: int) -> bool:
        decisions = self._engine.decide(now)
        if self._log is not None:
            self._log.append(Decided(self.frames, now, self._inputs, decisions))
            if decisions:
                self._log.flush()  # what is not journalled is not sent
        self._eyes.decided(now, decisions, self._engine)
        if self._on_decision is not None:
            self._on_decision(now, decisions, self._engine)
        lost = False
        for decision in decisions:
            if isinstance(decision, Place | Cancel):
                self._paper.submit(now, decision)
            elif isinstance(decision, Resync):
                lost = True
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
        waiting = "nothing" if self._paper.due() == NEVER else "reports"
        return f"<Pump frame {self.frames} at {self._now} waiting for {waiting}>"
