"""`mmbot audit`: a run's journal through a fresh engine; every decision must come out again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from bot.core.engine import Engine
from bot.core.orders import OrderFault
from bot.domain.decisions import Resync
from bot.domain.events import Event, FeedLost, FeedOpened
from bot.domain.tape import LOST_RESYNC, Tape
from bot.journal.capture import JournalError
from bot.journal.log import Closed, Decided, Header, Learned, Record, read_log
from bot.journal.run import Run, open_run
from bot.journal.segments import begins_at_start, read_segments
from bot.shell.pump import lost_cause
from bot.venues.binance.marketdata import MarketData


class Difference(Exception):
    """The first decision that does not come out as journalled; str is one sentence."""


class FramesEnd(JournalError):
    """The log speaks of more market frames than the segments hold."""


class Tapes:
    """The journal's market rows, learned frame by frame up to a given count."""

    __slots__ = ("_chunks", "_codec", "_engine", "_i", "_rest", "_tape", "_tapes", "_text_at",
                 "frames", "inputs")  # fmt: skip

    def __init__(self, engine: Engine, codec: MarketData, chunks: Iterator[bytes]) -> None:
        self._engine = engine
        self._codec = codec
        self._chunks = chunks
        self._tapes: Iterator[Tape] = iter(())
        self._tape: Tape | None = None
        self._i = 0
        self._text_at = 0
        self._rest = b""  # what the latest loss left of its chunk
        self.frames = 0
        self.inputs = 0

    def advance_to(self, frames: int) -> None:
        """Learn until `frames` frames have been learned; JournalError when there are fewer."""
        while self.frames < frames:
            tape = self._tape
            if tape is None or self._i == tape.n:
                self._next_tape(frames)
                continue
            row = tape.rows[self._i]
            self._engine.learn(tape, self._i)
            self._i += 1
            if row["frame_end"] == 1:
                end = int(row["text_end"])
                self.inputs = crc32(memoryview(tape.text)[self._text_at : end], self.inputs)
                self._text_at = end
                self.frames += 1

    def lose(self, at: int, cause: int = LOST_RESYNC) -> None:
        """Do what the run did: lose the book, read on behind this frame."""
        tape = self._tape
        if tape is not None:
            self._rest = tape.text[self._text_at :]
            self._codec.unread(tape, self._i)
        lost = self._codec.resync(at, cause)
        self._engine.learn(lost, 0)
        self._tape = None
        self._tapes = self._codec.read(self._rest)

    def _next_tape(self, frames: int) -> None:
        self._i = 0
        self._tape = next(self._tapes, None)
        if self._tape is None:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise FramesEnd(
                    f"the journal's market frames end after {self.frames}, and a record of the "
                    f"log comes after {frames}"
                )
            self._tapes = self._codec.read(chunk)
        else:
            self._text_at = self._tape.text_from


class Auditor:
    """Holds a fresh engine against a journal."""

    def __init__(self, run: Run) -> None:
        self._records = read_log(run.log)
        header = next(self._records, None)
        if not isinstance(header, Header):
            raise JournalError(f"{run.log}: the first record is no header")
        self.engine = Engine(header.instrument, header.fees, header.params, header.prefix)
        self._tapes = Tapes(self.engine, MarketData(header.instrument), read_segments(run.journal))
        self.decisions = 0
        self.closed = False
        self.unread = 0  # records behind the last market frame that a crash left
        self._header = header
        self._manifest = run.read_manifest()

    def run(self) -> None:
        """Every record in order; raises Difference at the first that does not come out.

        A crash may leave the log ahead of the market frames, which are written in larger
        pieces: the audit then ends with the frames. A run that was closed lacks none.
        """
        if self._manifest.get("config_sha256", self._header.config_digest) != (
            self._header.config_digest
        ):
            raise Difference("manifest.json names another configuration than the journal")
        for record in self._records:
            try:
                self._take(record)
            except FramesEnd:
                rest = list(self._records)
                if isinstance(record, Closed) or any(isinstance(one, Closed) for one in rest):
                    raise
                self.unread = 1 + len(rest)

    def _take(self, record: Record) -> None:
        if isinstance(record, Closed):
            self._tapes.advance_to(record.at_frame)
            self.closed = True
        elif not isinstance(record, Header):
            self._check(record)

    def _check(self, record: Record) -> None:
        assert isinstance(record, Learned | Decided)
        self._tapes.advance_to(record.at_frame)
        if isinstance(record, Learned):
            if isinstance(record.event, FeedLost):
                self._tapes.lose(record.event.at, lost_cause(record.event))
            elif not isinstance(record.event, FeedOpened):
                self._apply(record.event)
            return
        decisions = self.engine.decide(record.now)
        self.decisions += 1
        where = f"decision {self.decisions} at {record.now} (after frame {record.at_frame})"
        if decisions != record.decisions:
            raise Difference(
                f"{where} differs: the journal has {record.decisions}, the audit {decisions}"
            )
        if self._tapes.inputs != record.inputs:
            raise Difference(f"{where} was made from other input bytes than the journal holds")
        if any(isinstance(decision, Resync) for decision in decisions):
            self._tapes.lose(record.now)

    def _apply(self, event: Event) -> None:
        try:
            self.engine.apply(event)
        except OrderFault as fault:
            raise Difference(f"the run cannot have learned {event}: {fault}") from fault

    @property
    def frames(self) -> int:
        """Market frames learned so far."""
        return self._tapes.frames


def audit(path: Path) -> dict[str, Any]:
    """Audit a run folder. Raises JournalError for a damaged journal."""
    run = open_run(path)
    if not begins_at_start(run.journal):
        raise JournalError(
            f"{run.journal} holds the first market data no longer (run.market_days): "
            "a run can only be audited from its start"
        )
    auditor = Auditor(run)
    difference = None
    try:
        auditor.run()
    except Difference as found:
        difference = str(found)
    return {
        "run": str(path),
        "ok": difference is None,
        "frames": auditor.frames,
        "decisions": auditor.decisions,
        "closed": auditor.closed,
        "records_without_frames": auditor.unread,
        "difference": difference,
    }
