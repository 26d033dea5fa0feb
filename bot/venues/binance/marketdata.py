"""Binance public market data: frames in, tapes of events out. Sans-I/O.

`read` takes capture lines, `receive` one live frame. Both yield tapes whose rows the book
can learn as they are: deltas in sequence, a snapshot followed by the deltas buffered before
it, and BOOK_LOST where the chain broke. A tape is overwritten by the next one.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bot.domain.instrument import Instrument
from bot.domain.tape import (
    BOOK_CHANGED,
    BOOK_LOST,
    BOOK_RESET,
    LOST_DISCONNECT,
    LOST_GAP,
    LOST_RESYNC,
    LOST_UNREADABLE,
    NOTHING,
    ROW,
    TOUCH_CHANGED,
    TRADED,
    Tape,
)
from bot.venues.binance.frames import (
    FIRST_REASON,
    FOREIGN,
    OLD_DELTA,
    OLD_TRADE,
    OTHER_DIALECT,
    OTHER_EVENT,
    REASONS,
    UNREADABLE,
    UNREADABLE_DEPTH,
)
from bot.venues.binance.lines import FULL, JUMP_BACK_NS, NEEDS_PYTHON, decode_lines, decode_one
from bot.venues.binance.text import PRICE_DECIMALS
from bot.venues.booksync import FUTURES, RULE, SPOT, BookSync, Delta, Splice

RULES: Final = {"binance-spot": SPOT, "binance-usdm": FUTURES, "binance-coinm": FUTURES}
ROWS_MAX: Final = 8_192
LEVELS_MAX: Final = 1 << 17

COUNT_NAMES: Final = {
    BOOK_RESET: "snapshots",
    BOOK_CHANGED: "depth_updates",
    TOUCH_CHANGED: "book_tickers",
    TRADED: "trades",
    FIRST_REASON + OTHER_EVENT: "other_events",
    FIRST_REASON + FOREIGN: "foreign",
    FIRST_REASON + UNREADABLE: "unreadable",
    FIRST_REASON + UNREADABLE_DEPTH: "unreadable_depth",
    FIRST_REASON + OLD_DELTA: "old_deltas",
    FIRST_REASON + OTHER_DIALECT: "other_dialect",
    FIRST_REASON + OLD_TRADE: "old_trades",
}


class MarketData:
    """The market-data codec of one symbol.

    Raises ValueError for a tick finer than 1e-10 or a venue that is not Binance's.
    """

    __slots__ = (
        "_alone",
        "_counts",
        "_memory",
        "_qtys",
        "_recv",
        "_rows",
        "_symbol",
        "_tape",
        "_tick_units",
        "_ticks",
        "frames",
        "gaps",
        "sync",
    )

    def __init__(self, instrument: Instrument) -> None:
        units = instrument.tick * Decimal(10) ** PRICE_DECIMALS
        if units != int(units) or units < 1:
            raise ValueError(f"tick {instrument.tick} is finer than 1e-{PRICE_DECIMALS}")
        if instrument.venue not in RULES:
            raise ValueError(f"no market-data codec for {instrument.venue}")
        self.sync = BookSync(RULES[instrument.venue])
        self.gaps = 0
        self.frames = 0
        self._tick_units = int(units)
        self._symbol = np.frombuffer(instrument.symbol.encode(), np.uint8)
        self._memory = np.zeros(ROWS_MAX * ROW.itemsize, np.uint8)
        self._rows: NDArray[Any] = self._memory.view(ROW)
        self._ticks = np.zeros(LEVELS_MAX, np.int64)
        self._qtys = np.zeros(LEVELS_MAX)
        self._tape = Tape(self._rows, self._memory, 1, self._ticks, self._qtys, b"", 0)
        self._alone = (self._tape,)
        self._counts = np.zeros(FIRST_REASON + REASONS, np.int64)
        self._recv = 0

    def read(self, chunk: bytes) -> Iterator[Tape]:
        """The events of whole capture lines, each with its newline, in order."""
        assert chunk.endswith(b"\n") or not chunk
        at = 0
        while at < len(chunk):
            start = at
            n, at, why, recv = decode_lines(
                chunk,
                at,
                self._memory,
                self._ticks,
                self._qtys,
                self._symbol,
                self._tick_units,
                self.sync.chain,
                self._counts,
                self._recv,
            )
            self.frames += n
            look = why == NEEDS_PYTHON
            assert n > 0 or why != FULL
            if n > look:
                self._recv = recv
                yield Tape(
                    self._rows, self._memory, n - look, self._ticks, self._qtys, chunk, start
                )
            if look:
                before = start if n == 1 else int(self._rows[n - 2]["text_end"])
                yield self._look(self._rows[n - 1 : n].copy(), chunk, before)

    def receive(self, recv: int, frame: bytes) -> Iterable[Tape]:
        """The events of one live frame, received at `recv` ns; the tapes' texts are empty."""
        if not frame.endswith(b"}"):  # unreadable, but it may have been a depth frame
            return self.read(b"%d %b\n" % (recv, frame.replace(b"\n", b" ")))
        look, seen = decode_one(
            frame,
            recv,
            self._memory,
            self._ticks,
            self._qtys,
            self._symbol,
            self._tick_units,
            self.sync.chain,
            self._counts,
            self._recv,
        )
        self.frames += 1
        if look:
            return (self._look(self._rows[:1].copy(), b"", 0),)
        self._recv = seen
        return self._alone

    def resync(self, recv: int, cause: int = LOST_RESYNC) -> Tape:
        """Begin anew, because of `cause` (LOST_*); the tape holds one BOOK_LOST."""
        row = np.zeros(1, ROW)
        row["recv"] = recv
        self._recv = recv
        self.sync.lose()
        return self._lost(row, cause, b"", 0)

    def unread(self, tape: Tape, i: int) -> None:
        """Rows from `i` were not used and will be read again: take them out of the counts."""
        for row in tape.rows[i : tape.n]:
            if row["frame_end"] == 1:
                self.frames -= 1
                kind = int(row["kind"])
                self._counts[FIRST_REASON + int(row["side"]) if kind == NOTHING else kind] -= 1

    def _look(self, row: NDArray[Any], chunk: bytes, start: int) -> Tape:
        """What a row means that the compiled loop does not judge."""
        kind = int(row[0]["kind"])
        recv = int(row[0]["recv"])
        synced = self.sync.synced
        cause = 0
        if recv < self._recv - JUMP_BACK_NS:
            cause = LOST_DISCONNECT
        elif kind == NOTHING:
            cause = LOST_UNREADABLE
        elif kind == BOOK_CHANGED and synced:
            cause = LOST_GAP
        self._recv = recv if cause == LOST_DISCONNECT else max(self._recv, recv)
        if cause:
            self.sync.lose()
        futures = self.sync.chain[RULE] == FUTURES
        if kind == BOOK_CHANGED and (row[0]["prev_id"] < 0) == futures:
            self._counts[FIRST_REASON + OTHER_DIALECT] += 1
            kind = NOTHING
        splice = None
        if kind == BOOK_CHANGED:
            splice = self.sync.delta(
                Delta(
                    int(row[0]["first_id"]),
                    int(row[0]["last_id"]),
                    int(row[0]["prev_id"]),
                    (row, *self._levels(row)),
                )
            )
        elif kind == BOOK_RESET:
            body = (row, *self._levels(row))
            splice = self.sync.snapshot(int(row[0]["last_id"]), body, recv)
        if splice is not None:
            return self._spliced(splice, row, chunk, start)
        if cause and synced:
            self.gaps += 1
            return self._lost(row.copy(), cause, chunk, start)
        # A buffered delta stays on the tape as a sign of life; an unsynced book ignores it.
        quiet = row.copy()
        if kind != BOOK_CHANGED:
            quiet["kind"] = NOTHING
        return Tape(quiet, quiet.view(np.uint8), 1, self._ticks, self._qtys, chunk, start)

    def _levels(self, row: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        lo = int(row[0]["lo"])
        hi = lo + int(row[0]["n_bid"]) + int(row[0]["n_ask"])
        return self._ticks[lo:hi].copy(), self._qtys[lo:hi].copy()

    def _lost(self, row: NDArray[Any], cause: int, chunk: bytes, start: int) -> Tape:
        row["kind"] = BOOK_LOST
        row["exch"] = 0
        row["side"] = cause
        row["frame_end"] = 1
        return Tape(row, row.view(np.uint8), 1, self._ticks, self._qtys, chunk, start)

    def _spliced(self, splice: Splice, last: NDArray[Any], chunk: bytes, start: int) -> Tape:
        """The snapshot and its deltas as one frame's rows, at the receive time of the last."""
        bodies = [splice.snapshot, *(delta.body for delta in splice.deltas)]
        rows = np.concatenate([body[0] for body in bodies])
        sizes = [len(body[1]) for body in bodies]
        rows["lo"] = np.concatenate([[0], np.cumsum(sizes[:-1])])
        rows["recv"] = last[0]["recv"]
        rows["text_end"] = last[0]["text_end"]
        rows["frame_end"] = 0
        rows[-1]["frame_end"] = 1
        ticks = np.concatenate([body[1] for body in bodies])
        qtys = np.concatenate([body[2] for body in bodies])
        return Tape(rows, rows.view(np.uint8), len(rows), ticks, qtys, chunk, start)

    def counts(self) -> dict[str, int]:
        """How many frames of each kind came so far."""
        counts = self._counts.tolist()
        return {name: counts[index] for index, name in COUNT_NAMES.items()}

    def __repr__(self) -> str:
        return f"<MarketData frames={self.frames} gaps={self.gaps} {self.sync!r}>"
