"""The pump: journal before learning, one decision a batch, the same path in bulk and by frame."""

from itertools import pairwise
from pathlib import Path

import pytest

from bot.core.engine import Engine
from bot.domain.decisions import Cancel, Place, Resync, Trip
from bot.journal.capture import chunks
from bot.modes.enginerun import EngineRun
from bot.modes.settings import load

ROOT = Path(__file__).parents[2]
START = 1_723_161_255_000_000_000
MS = 1_000_000


def loaded(*sets: str):
    return load(ROOT / "config" / "paper-binance-usdm.yaml", env={}, sets=sets)


def levels(side: dict[int, float]) -> str:
    pairs = ",".join(f'["{tick / 10:.2f}","{qty:.3f}"]' for tick, qty in side.items())
    return f"[{pairs}]"


class Market:
    """Writes capture lines of a USD-M book that moves as told, a depth frame every 50 ms."""

    def __init__(self) -> None:
        self.now = START
        self.last_id = 1_000
        self.mid = 600_000
        self.lines: list[str] = []
        self.shown: tuple[dict[int, float], dict[int, float]] = ({}, {})

    def book(self, mid: int) -> tuple[dict[int, float], dict[int, float]]:
        bids = {mid - i: 5.0 for i in range(60)}
        asks = {mid + 1 + i: 5.0 for i in range(60)}
        return bids, asks

    def write(self, frame: str) -> None:
        self.lines.append(f"{self.now} {frame}")

    def snapshot(self) -> None:
        self.shown = self.book(self.mid)
        bids, asks = self.shown
        self.write(f'{{"lastUpdateId":{self.last_id},"bids":{levels(bids)},"asks":{levels(asks)}}}')

    def depth(self, step_ms: int = 50, move: int = 0, crossed: bool = False) -> None:
        self.now += step_ms * MS
        self.mid += move
        before = self.shown
        self.shown = self.book(self.mid)
        changes = [
            {**{tick: 0.0 for tick in old if tick not in new}, **new}
            for old, new in zip(before, self.shown, strict=True)
        ]
        if crossed:
            changes[0][self.mid + 3] = 1.0
            self.shown[0][self.mid + 3] = 1.0
        first, self.last_id = self.last_id + 1, self.last_id + 10
        stamp = self.now // MS
        self.write(
            f'{{"stream":"btcusdt@depth@0ms","data":{{"e":"depthUpdate","E":{stamp},"T":{stamp},'
            f'"s":"BTCUSDT","U":{first - 1 if first == 1001 else first},"u":{self.last_id},'
            f'"pu":{first - 1},"b":{levels(changes[0])},"a":{levels(changes[1])}}}}}'
        )

    def trade(self, tick: int, qty: float, sell: bool, step_ms: int = 1) -> None:
        self.now += step_ms * MS
        stamp = self.now // MS
        self.write(
            f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{stamp},"T":{stamp},'
            f'"s":"BTCUSDT","t":{self.now // MS},"p":"{tick / 10:.2f}","q":"{qty:.3f}",'
            f'"X":"MARKET","m":{"true" if sell else "false"}}}}}'
        )

    def text(self) -> bytes:
        return "".join(line + "\n" for line in self.lines).encode()


def opened(seconds: float = 3.0) -> Market:
    market = Market()
    market.snapshot()
    for _ in range(int(seconds * 20)):
        market.depth()
    return market


class Watched:
    """A replay whose decisions are kept."""

    def __init__(self, *sets: str, rows_max: int = 1 << 30) -> None:
        self.made: list[tuple[int, object]] = []
        self.replay = EngineRun(loaded(*sets), None, self._keep, rows_max=rows_max)

    def _keep(self, now: int, decisions: object, engine: Engine) -> None:
        self.made += [(now, decision) for decision in decisions]

    def run(self, text: bytes) -> "Watched":
        self.replay.feed_all([text])
        return self

    def of(self, kind: type) -> list[tuple[int, object]]:
        return [(now, d) for now, d in self.made if isinstance(d, kind)]


def test_a_quiet_market_is_quoted_once_and_left_alone():
    watched = Watched().run(opened().text())
    assert len(watched.of(Place)) == 4
    assert watched.of(Cancel) == []
    assert watched.replay.engine.orders.two_sided()


def test_a_deadline_before_the_next_frame_fires_first():
    market = opened(1.0)
    market.depth(step_ms=450)
    times: list[int] = []
    replay = EngineRun(loaded(), None, lambda now, _, __: times.append(now))
    replay.feed_all([market.text()])
    last = [now for now in times if now > market.now - 450 * MS]
    assert len(last) >= 4
    assert all(b - a <= 100 * MS for a, b in pairwise(times))


@pytest.mark.parametrize("rows_max", [1, 2, 7])
def test_bulk_and_frame_by_frame_decide_the_same(rows_max):
    market = opened(1.0)
    for i in range(200):
        market.depth(move=(-1) ** (i // 30) * 9)
        market.trade(market.mid - (i % 40) * 8, 0.5, sell=True)
        market.trade(market.mid + 1 + (i % 40) * 8, 0.5, sell=False)
    bulk = Watched().run(market.text())
    single = Watched(rows_max=rows_max).run(market.text())
    assert bulk.made == single.made
    assert len(bulk.of(Place)) > 20
    assert bulk.replay.digest.hexdigest == single.replay.digest.hexdigest
    assert bulk.replay.result()["fills"] == single.replay.result()["fills"] > 0


def test_chunks_cut_anywhere_between_lines_decide_the_same():
    market = opened(1.0)
    for i in range(60):
        market.depth(move=12 if i % 7 else -30)
    lines = market.text().splitlines(keepends=True)
    whole = Watched().run(market.text())
    pieces = Watched()
    pieces.replay.feed_all(b"".join(lines[i : i + 3]) for i in range(0, len(lines), 3))
    assert pieces.made == whole.made


def test_a_lost_depth_frame_cancels_everything_in_the_next_decide():
    market = opened(2.0)
    del market.lines[-1]
    market.depth()
    at = market.now
    for _ in range(40):
        market.depth()
    watched = Watched().run(market.text())
    trips = watched.of(Trip)
    assert [(now, trip.cause) for now, trip in trips] == [(at, "book_untrusted:gap")]
    placed = {place.order_id for now, place in watched.of(Place) if now < at}
    assert {cancel.order_id for now, cancel in watched.of(Cancel) if now == at} == placed
    assert all(now < at for now, _ in watched.of(Place))


def test_an_unreadable_depth_frame_cancels_and_other_garbage_does_not():
    for garbage, trips in (
        ('{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":17', 1),
        ('{"stream":"btcusdt@trade","data":{"e":"trade","p":"-1"', 0),
        ("\x00\xff nonsense", 0),
    ):
        market = opened(1.0)
        market.now += MS
        market.write(garbage)
        before = market.now
        watched = Watched().run(market.text())
        assert len(watched.of(Trip)) == trips, garbage
        assert [d for now, d in watched.of(Place) if now >= before] == []


def test_a_book_that_stays_crossed_is_resynced_and_read_on_from_the_same_frame():
    market = opened(1.0)
    market.depth(crossed=True)
    for _ in range(10):
        market.depth(crossed=True)
    market.depth()
    market.snapshot()
    for _ in range(100):
        market.depth()
    for rows_max in (1, 1 << 30):
        watched = Watched(rows_max=rows_max).run(market.text())
        assert len(watched.of(Resync)) == 1
        result = watched.replay.result()
        assert result["frames"] == len(market.lines)
        assert result["resyncs"] == 1
        assert result["untrusted_ns"] > 250 * MS
        assert watched.replay.engine.book.trusted


def test_every_capture_frame_reaches_the_summary(usdm_capture):
    replay = EngineRun(loaded())
    replay.feed_all(chunks([usdm_capture]))
    result = replay.result()
    counted = result["depth_updates"] + result["trades"] + result["book_tickers"] + 1
    assert result["frames"] == counted == 93_954
