"""An engine wired together, on paper or at a venue: what a replay and a daemon share."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bot import __version__
from bot.core.engine import Engine
from bot.domain.decisions import Decision
from bot.domain.instrument import Instrument
from bot.journal.log import Closed, DecisionDigest, Header, LogWriter
from bot.journal.run import Run, run_name
from bot.journal.segments import SegmentWriter
from bot.modes.settings import ConfigError, Loaded
from bot.ops.eyes import Eye, Eyes
from bot.ops.summary import Summary
from bot.shell.pump import OnDecision, Pump, Venue
from bot.sim.latency import LatencyParams
from bot.sim.paper import Paper
from bot.venues.binance.marketdata import MarketData

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


def new_engine(loaded: Loaded, prefix: str = PREFIX) -> Engine:
    """An engine; a ConfigError for contracts that it cannot account for."""
    if not loaded.instrument.linear:
        raise ConfigError(
            f"{loaded.instrument.venue} {loaded.instrument.symbol} is an inverse contract, whose "
            "PnL is not built yet: its book can be replayed with --emit bbo, quoting it is refused"
        )
    return Engine(loaded.instrument, loaded.fees, loaded.params, prefix)


def new_codec(instrument: Instrument) -> MarketData:
    """The market-data codec; a ConfigError for an instrument that it cannot read."""
    try:
        return MarketData(instrument)
    except ValueError as fault:
        raise ConfigError(f"{instrument.symbol} cannot be read: {fault}") from fault


class EngineRun:
    """One run of an engine: with its codec, its venue and its journal, wired together.

    A replay calls `feed_all`; a daemon drives `pump` and calls `close`. `result` tells what it
    amounted to. `eyes` watch beside the summary; `prefix` starts every client id; `venue` makes
    the venue where orders go, which is of paper without it.
    """

    def __init__(
        self,
        loaded: Loaded,
        run: Run | None = None,
        on_decision: OnDecision | None = None,
        *,
        rows_max: int = 1 << 30,
        mode: str = "replay",
        started_at: int = 0,
        prefix: str = PREFIX,
        seed: int = 0,
        eyes: Sequence[Eye[Engine]] = (),
        venue: Callable[[Engine], Venue] | None = None,
    ) -> None:
        self.loaded = loaded
        self.run = run
        self.engine = new_engine(loaded, prefix)
        self.codec = new_codec(loaded.instrument)
        self.digest = DecisionDigest()
        self.summary = Summary()
        self.segments: SegmentWriter | None = None
        self._log: LogWriter | None = None
        self._on_decision = on_decision
        if run is not None:
            self.segments = SegmentWriter(run.journal)
            self._log = LogWriter(run.log)
            self._log.append(self._header(mode, started_at, prefix, seed))
            self._log.flush()  # a crash at any byte leaves a run that can be read
        self.pump = Pump(
            self.engine,
            self.codec,
            paper_venue(loaded, self.engine) if venue is None else venue(self.engine),
            segments=self.segments,
            log=self._log,
            on_decision=self._decided,
            eyes=Eyes(self.summary, *eyes),
            rows_max=rows_max,
        )
        self.wall_s = 0.0

    def _header(self, mode: str, started_at: int, prefix: str, seed: int) -> Header:
        return Header(
            bot_version=__version__,
            mode=mode,
            started_at=started_at,
            seed=seed,
            config_digest=self.loaded.digest,
            instrument=self.loaded.instrument,
            fees=self.loaded.fees,
            params=self.loaded.params,
            prefix=prefix,
        )

    def _decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        self.digest.add(now, decisions)
        if self._on_decision is not None:
            self._on_decision(now, decisions, engine)

    def feed_all(self, pieces: Iterable[bytes]) -> None:
        """Run over every chunk, then close the journal; times itself."""
        started = time.perf_counter()
        for chunk in pieces:
            self.pump.feed(chunk)
        self.close("end of capture")
        self.wall_s = time.perf_counter() - started

    def close(self, reason: str) -> None:
        """Close the open intervals and the journal; `result` is final then."""
        now = self.pump.now
        self.summary.finish(now, self.engine)
        self.engine.markouts.finish(float(self.engine.mark()))
        try:
            if self.segments is not None:
                self.segments.close()  # first: what is called closed lacks no frame
            if self._log is not None:
                self._log.append(Closed(self.pump.frames, now, reason))
        finally:
            if self._log is not None:
                self._log.close()

    def result(self) -> dict[str, Any]:
        """What `--json` prints; programs rely on its keys. Money as exact decimal text."""
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
            "orders_amended": summary.amended,
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


def new_run(loaded: Loaded, root: Path, started_at: int, mode: str, seed: int = 0) -> Run:
    """A new run folder named by its start (ns since the epoch), with its manifest."""
    run = Run.create(root, run_name(started_at, loaded.instrument.venue, loaded.instrument.symbol))
    run.write_manifest(
        {
            "version": __version__,
            "mode": mode,
            "config": msgspec.to_builtins(loaded.params),
            "config_sha256": loaded.digest,
            "instrument": msgspec.to_builtins(loaded.instrument),
            "seed": seed,
        }
    )
    return run
