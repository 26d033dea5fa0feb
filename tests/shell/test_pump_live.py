"""The pump as a daemon drives it: batches from the inbox, a clock, and the same audit."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot.core.engine import Engine
from bot.domain.decisions import Cancel, Decision, Place
from bot.domain.events import FeedLost, FeedOpened
from bot.domain.units import NS_PER_MS, Side
from bot.journal.capture import chunks
from bot.journal.log import Closed, DecisionDigest, Header, LogWriter
from bot.journal.run import Run
from bot.journal.segments import SegmentWriter
from bot.market.book import Book
from bot.modes.audit import audit
from bot.modes.enginerun import PREFIX, EngineRun, new_engine, paper_venue
from bot.modes.settings import Loaded, load
from bot.ops.summary import Summary
from bot.shell.inbox import OVERFLOW, Frame, Item
from bot.shell.pump import Pump
from bot.venues.binance.marketdata import MarketData

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load(ROOT / "config" / "paper-binance-usdm.yaml", env={})


@pytest.fixture(scope="module")
def frames(usdm_capture: Path) -> list[Frame]:
    """The first 75 s of a real stream."""
    text = next(chunks([usdm_capture], 12_000_000))
    found = []
    for line in text.splitlines():
        recv, _, raw = line.partition(b" ")
        found.append(Frame(int(recv), raw))
    return found[:20_000]


class Live:
    """A pump with its journal in a folder, and every decision it made."""

    def __init__(self, loaded: Loaded, folder: Path) -> None:
        self.run = Run.create(folder, "run")
        self.run.write_manifest({})
        self.engine = new_engine(loaded)
        self.summary = Summary()
        self.digest = DecisionDigest()
        self.made: list[tuple[int, Sequence[Decision]]] = []
        self.segments = SegmentWriter(self.run.journal)
        self.log = LogWriter(self.run.log)
        self.log.append(
            Header(
                bot_version="test",
                mode="paper",
                started_at=0,
                seed=0,
                config_digest="",
                prefix=PREFIX,
                instrument=loaded.instrument,
                fees=loaded.fees,
                params=loaded.params,
            )
        )
        self.pump = Pump(
            self.engine,
            MarketData(loaded.instrument),
            paper_venue(loaded, self.engine),
            segments=self.segments,
            log=self.log,
            on_decision=self._note,
            eyes=self.summary,
        )

    def _note(self, now: int, decisions: Sequence[Decision], _: Engine) -> None:
        self.digest.add(now, decisions)
        self.made.append((now, decisions))

    def wake_until(self, now: int) -> None:
        """Every wake-up that a loop with an exact timer would make up to `now`."""
        while (due := self.pump.due()) is not None and due <= now:
            self.pump.wake(due)
            self.pump.wants_snapshot(now)

    def close(self) -> dict[str, Any]:
        self.log.append(Closed(self.pump.frames, self.pump.now, "end"))
        self.log.close()
        self.segments.close()
        return audit(self.run.path)


class Venue:
    """Knows the whole book at every frame, and so can answer with a snapshot."""

    def __init__(self, loaded: Loaded) -> None:
        self._tick = loaded.instrument.tick
        self._codec = MarketData(loaded.instrument)
        self.book = Book()

    def learn(self, frames: list[Frame]) -> None:
        for frame in frames:
            for tape in self._codec.receive(frame.recv, frame.raw):
                for i in range(tape.n):
                    self.book.learn(tape.rows, i, tape.ticks, tape.qtys)

    def snapshot(self, now: int) -> Frame:
        sides = [
            [[str(self._tick * tick), f"{q:.3f}"] for tick, q in self.book.top(side, 1_000)]
            for side in (Side.BUY, Side.SELL)
        ]
        body = {"lastUpdateId": self.book.read().book_id, "bids": sides[0], "asks": sides[1]}
        return Frame(now, json.dumps(body, separators=(",", ":")).encode())


def batches(frames: list[Frame], draw: random.Random, longest: int) -> Iterator[list[Frame]]:
    at = 0
    while at < len(frames):
        n = draw.randint(1, longest)
        yield frames[at : at + n]
        at += n


def test_one_frame_a_batch_decides_as_a_replay_does(
    loaded: Loaded, frames: list[Frame], tmp_path: Path
) -> None:
    live = Live(loaded, tmp_path)
    for frame in frames:
        live.wake_until(frame.recv)
        live.pump.batch([frame], frame.recv)
    replay = EngineRun(loaded)
    replay.feed_all([b"".join(b"%d %b\n" % (f.recv, f.raw) for f in frames)])
    assert live.digest.hexdigest == replay.digest.hexdigest
    assert replay.summary.placed > 100
    result = live.close()
    assert (result["ok"], result["frames"]) == (True, len(frames))
    assert result["decisions"] == len(live.made)


@pytest.mark.parametrize("seed", [1, 2])
def test_any_batches_are_audited(
    loaded: Loaded, frames: list[Frame], tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    live = Live(loaded, tmp_path)
    venue = Venue(loaded)
    for batch in batches(frames, draw, longest=60):
        venue.learn(batch)
        now = batch[-1].recv + draw.randrange(5 * NS_PER_MS)
        items: list[Item] = list(batch)
        if draw.random() < 0.01:
            cause = draw.choice(["silence", OVERFLOW])
            at = draw.randrange(len(items) + 1)
            items[at:at] = [FeedLost(now, cause), FeedOpened(now, "public")]
        if draw.random() < 0.5:
            live.wake_until(batch[0].recv)
        live.pump.batch(items, now)
        if live.summary.first_trusted_ns is not None and live.pump.wants_snapshot(now):
            live.pump.batch([venue.snapshot(now)], now)
    assert live.summary.untrusted_ns > 0
    assert live.summary.placed > 20
    result = live.close()
    assert result["difference"] is None
    assert result["decisions"] == len(live.made)


def test_a_burst_makes_one_decision(loaded: Loaded, frames: list[Frame], tmp_path: Path) -> None:
    live = Live(loaded, tmp_path)
    live.pump.batch(frames[:2_000], frames[1_999].recv)
    assert live.engine.book.trusted
    assert len(live.made) <= 3  # trust, then what the venue answered
    before = len(live.made)
    late = frames[3_999].recv + 3 * NS_PER_MS
    live.pump.batch(frames[2_000:4_000], late)
    reports = sum(isinstance(d, Place | Cancel) for _, made in live.made[:before] for d in made)
    assert len(live.made) - before <= reports + 1
    assert {now for now, _ in live.made[before:]} == {late}
    live.close()


@pytest.mark.parametrize("cause", ["silence", OVERFLOW])
def test_a_lost_feed_cancels_in_the_same_batch(
    loaded: Loaded, frames: list[Frame], tmp_path: Path, cause: str
) -> None:
    live = Live(loaded, tmp_path)
    for frame in frames[:4_000]:
        live.wake_until(frame.recv)
        live.pump.batch([frame], frame.recv)
    resting = {order.order_id for order in live.engine.view().orders}
    assert len(resting) >= 2
    known = len(live.made)
    now = frames[3_999].recv + 1
    live.pump.batch([FeedLost(now, cause), *frames[4_000:4_050]], now)
    at, first = live.made[known]
    assert at == now
    assert {d.order_id for d in first if isinstance(d, Cancel)} == resting
    assert not any(isinstance(d, Place) for _, made in live.made[known:] for d in made)
    assert not live.engine.book.trusted
    assert live.pump.wants_snapshot(now)  # deltas are buffered again
    assert not live.pump.wants_snapshot(now)
    assert live.close()["ok"]


def test_losses_without_a_frame_between_them_are_audited(
    loaded: Loaded, frames: list[Frame], tmp_path: Path
) -> None:
    live = Live(loaded, tmp_path)
    live.pump.batch(frames[:2_000], frames[1_999].recv)
    now = frames[1_999].recv + 1
    live.pump.batch([FeedLost(now, "cut"), FeedOpened(now, "public"), FeedLost(now, "cut")], now)
    live.pump.batch(frames[2_000:4_000], frames[3_999].recv)
    result = live.close()
    assert (result["ok"], result["frames"]) == (True, 4_000)


def test_the_prefix_names_every_order(loaded: Loaded, frames: list[Frame], tmp_path: Path) -> None:
    live = Live(loaded, tmp_path)
    live.pump.batch(frames[:4_000], frames[3_999].recv)
    assert all(order.order_id.startswith(PREFIX) for order in live.engine.view().orders)
    live.close()
