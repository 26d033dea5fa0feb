"""`mmbot replay`: a capture through the live engine with paper fills, as fast as it goes."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bot import __version__
from bot.core.engine import Engine
from bot.domain.decisions import Decision
from bot.domain.instrument import Instrument
from bot.domain.tape import BOOK_CHANGED
from bot.domain.units import Side
from bot.journal.log import Closed, DecisionDigest, Header, LogWriter
from bot.journal.run import Run, run_name
from bot.journal.segments import SegmentWriter
from bot.market.book import Book
from bot.market.kernels import TRUSTED
from bot.modes.settings import ConfigError, Loaded
from bot.ops.summary import Summary
from bot.shell.pump import Pump
from bot.sim.latency import LatencyParams
from bot.sim.paper import Paper
from bot.venues.binance.marketdata import MarketData
from bot.venues.binance.text import nanoseconds

PREFIX = "mm"  # of the client ids of a replay's orders


def paper_venue(loaded: Loaded, engine: Engine) -> Paper:
    """The paper venue of a configuration, on the engine's book."""
    paper = loaded.settings.paper
    latency = LatencyParams(
        entry_x=paper.entry_latency_x,
        response_x=paper.response_latency_x,
        entry_ms_min=paper.entry_latency_ms_min,
        entry_ms_max=paper.entry_latency_ms_max,
        feed_ms_floor=paper.feed_latency_ms_floor,
    )
    lot = float(loaded.instrument.lot)
    return Paper(engine.book, lot, latency, paper.queue, float(paper.queue_n))


def new_engine(loaded: Loaded) -> Engine:
    """An engine for paper trading; a ConfigError for contracts that it cannot account for."""
    if not loaded.instrument.linear:
        raise ConfigError(
            f"{loaded.instrument.venue} {loaded.instrument.symbol} is an inverse contract, whose "
            "PnL is not built yet: its book can be replayed with --emit bbo, quoting it is refused"
        )
    return Engine(loaded.instrument, loaded.fees, loaded.params, PREFIX)


def new_codec(instrument: Instrument) -> MarketData:
    """The market-data codec; a ConfigError for an instrument that it cannot read."""
    try:
        return MarketData(instrument)
    except ValueError as fault:
        raise ConfigError(f"{instrument.symbol} cannot be read: {fault}") from fault


class Replay:
    """One replay: feeds chunks, then `result` tells what they amounted to."""

    def __init__(
        self,
        loaded: Loaded,
        run: Run | None = None,
        on_decision: Callable[[int, Any, Engine], None] | None = None,
        rows_max: int = 1 << 30,
    ) -> None:
        self.loaded = loaded
        self.run = run
        self.engine = new_engine(loaded)
        self.codec = new_codec(loaded.instrument)
        self.digest = DecisionDigest()
        self.summary = Summary()
        self._log: LogWriter | None = None
        self._segments: SegmentWriter | None = None
        self._observer = on_decision
        if run is not None:
            self._segments = SegmentWriter(run.journal)
            self._log = LogWriter(run.log)
            self._log.append(self._header())
            self._log.flush()  # a crash at any byte leaves a run that can be read
        self.pump = Pump(
            self.engine,
            self.codec,
            paper_venue(loaded, self.engine),
            segments=self._segments,
            log=self._log,
            on_decision=self._decided,
            eyes=self.summary,
            rows_max=rows_max,
        )
        self.wall_s = 0.0

    def _header(self) -> Header:
        return Header(
            bot_version=__version__,
            mode="replay",
            started_at=0,
            seed=0,
            config_digest=self.loaded.digest,
            instrument=self.loaded.instrument,
            fees=self.loaded.fees,
            params=self.loaded.params,
            prefix=PREFIX,
        )

    def _decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        self.digest.add(now, decisions)
        if self._observer is not None:
            self._observer(now, decisions, engine)

    def feed_all(self, pieces: Iterable[bytes]) -> None:
        """Run over every chunk, then close the journal; times itself."""
        started = time.perf_counter()
        for chunk in pieces:
            self.pump.feed(chunk)
        now = self.pump.now
        self.summary.finish(now, self.engine)
        self.engine.markouts.finish(float(self.engine.mark()))
        if self._log is not None:
            self._log.append(Closed(self.pump.frames, now, "end of capture"))
            self._log.close()
        if self._segments is not None:
            self._segments.close()
        self.wall_s = time.perf_counter() - started

    def result(self) -> dict[str, Any]:
        """What `replay --json` prints; programs rely on its keys. Money as exact decimal text."""
        summary, counts, engine = self.summary, self.codec.counts(), self.engine
        pnl = engine.ledger.mark(engine.mark())
        lot = self.loaded.instrument.lot
        return {
            "frames": self.pump.frames,
            "depth_updates": counts["depth_updates"],
            "trades": counts["trades"],
            "book_tickers": counts["book_tickers"],
            "unreadable": counts["unreadable"] + counts["unreadable_depth"],
            "foreign": counts["foreign"],
            "gaps": self.codec.gaps,
            "resyncs": max(self.codec.sync.resyncs - 1, 0),
            "first_trusted_ns": summary.first_trusted_ns,
            "untrusted_ns": summary.untrusted_ns,
            "decisions": summary.decisions,
            "orders_placed": summary.placed,
            "orders_amended": 0,
            "orders_cancelled": summary.cancelled,
            "fills": summary.fills,
            "volume": str(engine.ledger.volume_lots * lot),
            "turnover": str(engine.ledger.turnover),
            "pnl": {name: str(getattr(pnl, name)) for name in pnl.__struct_fields__},
            "markouts": engine.markouts.values(),
            "uptime": summary.uptime(self.pump.now),
            "position": str(engine.ledger.position_lots * lot),
            "max_abs_position": str(engine.ledger.max_abs_position_lots * lot),
            "halts": summary.halts,
            "refused": {r.value: n for r, n in engine.gate.refused.items() if n},
            "decisions_sha256": self.digest.hexdigest,
            "wall_s": round(self.wall_s, 3),
            "frames_per_s": round(self.pump.frames / self.wall_s) if self.wall_s else 0,
            "run": None if self.run is None else str(self.run.path),
        }


def start_run(loaded: Loaded, root: Path, first_chunk: bytes) -> Run:
    """A new run folder named by the capture's first receive time, with its manifest."""
    stamp = first_chunk.split(b" ", 1)[0]
    first = nanoseconds(int(stamp)) if stamp.isdigit() and int(stamp) < 2**63 else 0
    name = run_name(max(first, 0), loaded.instrument.venue, loaded.instrument.symbol)
    run = Run.create(root, name)
    run.write_manifest(
        {
            "version": __version__,
            "mode": "replay",
            "config": msgspec.to_builtins(loaded.params),
            "config_sha256": loaded.digest,
            "instrument": msgspec.to_builtins(loaded.instrument),
            "seed": 0,
        }
    )
    return run


def first_and_rest(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first chunk, and an iterator that still yields it."""
    first = next(pieces, b"")

    def again() -> Iterator[bytes]:
        if first:
            yield first
        yield from pieces

    return first, again()


def exact(value: float, step: Decimal) -> str:
    """A displayed quantity with at least the step's decimals, and more where it has them."""
    text = Decimal(repr(value))
    return str(text.quantize(step)) if text == text.quantize(step) else f"{text:f}"


def bbo_lines(
    codec: MarketData, instrument: Instrument, pieces: Iterable[bytes]
) -> Iterator[bytes]:
    """`--emit bbo`: one JSON line per depth update applied while the book is trusted.

    The touch is the depth book's own, without the ticker.
    """
    book = Book()
    encode = msgspec.json.Encoder().encode
    for chunk in pieces:
        for tape in codec.read(chunk):
            for i in range(tape.n):
                book.learn(tape.rows, i, tape.ticks, tape.qtys)
                if tape.rows[i]["kind"] != BOOK_CHANGED:
                    continue
                h = book.read()
                if h.distrust != TRUSTED:
                    continue
                yield encode(
                    {
                        "recv_ns": int(tape.rows[i]["recv"]),
                        "u": h.book_id,
                        "bid": str(instrument.price(h.best_bid)),
                        "bid_qty": exact(book.quantity(Side.BUY, h.best_bid), instrument.lot),
                        "ask": str(instrument.price(h.best_ask)),
                        "ask_qty": exact(book.quantity(Side.SELL, h.best_ask), instrument.lot),
                    }
                )
