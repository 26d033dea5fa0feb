import functools
import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bot.domain.instrument import Instrument
from bot.domain.tape import (
    BOOK_CHANGED,
    BOOK_LOST,
    BOOK_RESET,
    LOST_DISCONNECT,
    LOST_GAP,
    LOST_NAMES,
    LOST_RESYNC,
    LOST_UNREADABLE,
    NOTHING,
    TOUCH_CHANGED,
    TRADED,
)
from bot.domain.units import Side
from bot.market.book import Book
from bot.venues.binance.marketdata import MarketData

S = 10**9


class Line(NamedTuple):
    """The touch rebuilt from depth alone, after one applied update."""

    u: int
    bid: int
    bid_qty: float
    ask: int
    ask_qty: float


class Run(NamedTuple):
    """What came of reading a stream with a codec and a book."""

    lines: list[Line]
    tickers: dict[int, Line]
    crossed: int
    lost: list[int]  # causes
    trades: int
    codec: MarketData
    book: Book


def instrument(venue: str) -> Instrument:
    tick, lot = ("0.01", "0.00001") if venue == "binance-spot" else ("0.10", "0.001")
    return Instrument(venue, "BTCUSDT", "BTC", "USDT", Decimal(tick), Decimal(lot))


def play(
    venue: str, chunks: Iterable[bytes], codec: MarketData | None = None, book: Book | None = None
) -> Run:
    codec = codec or MarketData(instrument(venue))
    book = book or Book()
    lines: list[Line] = []
    tickers: dict[int, Line] = {}
    lost: list[int] = []
    crossed = trades = 0
    for chunk in chunks:
        for tape in codec.read(chunk):
            kinds = tape.rows["kind"][: tape.n].tolist()
            for i, kind in enumerate(kinds):
                book.learn(tape.rows, i, tape.ticks, tape.qtys)
                if kind == BOOK_CHANGED:
                    h = book.read()
                    crossed += bool(h.synced) and h.best_bid >= h.best_ask
                    if h.distrust == 0:
                        sizes = (
                            book.quantity(Side.BUY, h.best_bid),
                            book.quantity(Side.SELL, h.best_ask),
                        )
                        lines.append(Line(h.book_id, h.best_bid, sizes[0], h.best_ask, sizes[1]))
                elif kind == TOUCH_CHANGED:
                    r = tape.rows[i]
                    touch = (r["bid"], r["bid_qty"], r["ask"], r["ask_qty"])
                    tickers[int(r["last_id"])] = Line(int(r["last_id"]), *touch)
                elif kind == BOOK_LOST:
                    lost.append(int(tape.rows[i]["side"]))
                elif kind == TRADED:
                    trades += 1
    return Run(lines, tickers, crossed, lost, trades, codec, book)


@functools.cache
def frames(path: Path) -> tuple[bytes, ...]:
    """The first 12,000 lines: enough for every fault, and quick."""
    with gzip.open(path) as file:
        return tuple(file.readlines()[:12_000])


@functools.cache
def truth(venue: str, path: Path) -> Run:
    return play(venue, [b"".join(frames(path))])


@pytest.fixture(params=["binance-spot", "binance-usdm"])
def venue(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def capture(venue: str, request: pytest.FixtureRequest) -> Path:
    name = "spot_capture" if venue == "binance-spot" else "usdm_capture"
    return Path(request.getfixturevalue(name))


def depth_at(lines: Iterable[bytes]) -> list[int]:
    return [i for i, line in enumerate(lines) if b'"depthUpdate"' in line]


def snapshot_at(lines: Iterable[bytes]) -> int:
    return next(i for i, line in enumerate(lines) if b'"lastUpdateId"' in line)


def stamp(line: bytes) -> int:
    return int(line.split(b" ", 1)[0])


def last_id(line: bytes) -> int:
    return int(json.loads(line.split(b" ", 1)[1])["data"]["u"])


def snapshot_line(venue: str, book: Book, u: int, recv: int) -> bytes:
    """A REST snapshot of `book`, as the venue would have sent it."""
    tick = instrument(venue).tick
    sides = [
        [[str(tick * t), f"{q:.8f}"] for t, q in sorted(book.levels(side).items())] for side in Side
    ]
    body = {"lastUpdateId": u, "bids": sides[0][::-1], "asks": sides[1]}
    return b"%d %b\n" % (recv, json.dumps(body, separators=(",", ":")).encode())


def assert_true(run: Run, venue: str, path: Path) -> None:
    """Every line of a trusted book says what the undisturbed stream says at that id."""
    known = {line.u: line for line in truth(venue, path).lines}
    for line in run.lines:
        assert line == known[line.u]


@pytest.mark.parametrize(
    ("venue", "lines", "equal"), [("binance-spot", 3449, 564), ("binance-usdm", 6547, 629)]
)
def test_a_whole_capture_is_rebuilt(venue: str, capture: Path, lines: int, equal: int) -> None:
    with gzip.open(capture) as file:
        text = file.read()
    run = play(venue, [text])
    assert len(run.lines) == lines
    assert run.crossed == 0
    assert run.lost == []
    assert run.codec.gaps == 0
    assert run.codec.frames == text.count(b"\n")
    counts = run.codec.counts()
    assert (
        counts["trades"]
        == run.trades
        == text.count(b'"e":"trade"')
        - text.count(b'"X":"INSURANCE_FUND"')
        - text.count(b'"X":"ADL"')
    )
    assert counts["snapshots"] == 1
    assert counts["depth_updates"] == text.count(b'"e":"depthUpdate"')
    assert counts["unreadable"] == counts["unreadable_depth"] == counts["old_deltas"] == 0
    both = [line for line in run.lines if line.u in run.tickers]
    assert [run.tickers[line.u] for line in both] == both
    assert len(both) == equal
    assert run.book.read().distrust == 0


def all_rows(codec: MarketData, chunks: Iterable[bytes]) -> tuple[Any, Any, Any]:
    """Every row, without what depends on the chunk it stood in; every level."""
    rows: list[Any] = []
    ticks: list[Any] = []
    qtys: list[Any] = []
    for chunk in chunks:
        for tape in codec.read(chunk):
            got = tape.rows[: tape.n].copy()
            for r in got[got["kind"] != NOTHING]:
                part = slice(r["lo"], r["lo"] + r["n_bid"] + r["n_ask"])
                ticks.append(tape.ticks[part].copy())
                qtys.append(tape.qtys[part].copy())
            got["lo"] = 0
            got["text_end"] = 0
            rows.append(got)
    return np.concatenate(rows), np.concatenate(ticks), np.concatenate(qtys)


@pytest.mark.parametrize("size", [1, 7, 500])
def test_rows_do_not_depend_on_the_chunks(venue: str, capture: Path, size: int) -> None:
    lines = frames(capture)[:3000]
    whole = all_rows(MarketData(instrument(venue)), [b"".join(lines)])
    parts = [b"".join(lines[i : i + size]) for i in range(0, len(lines), size)]
    rows, ticks, qtys = all_rows(MarketData(instrument(venue)), parts)
    np.testing.assert_array_equal(ticks, whole[1])
    np.testing.assert_array_equal(qtys, whole[2])
    assert [f for f in rows.dtype.names if (rows[f] != whole[0][f]).any()] == []


def test_text_offsets_point_at_the_frames(venue: str, capture: Path) -> None:
    text = b"".join(frames(capture)[:3000])
    at = 0
    for tape in MarketData(instrument(venue)).read(text):
        assert tape.text == text
        assert tape.text_from == at
        for end in sorted(set(tape.rows["text_end"][: tape.n].tolist())):
            assert text[at:end].count(b"\n") == 1
            at = end
    assert at == len(text)


def test_live_frames_are_read_as_lines_are(venue: str, capture: Path) -> None:
    lines = frames(capture)[:600]
    codec, book = MarketData(instrument(venue)), Book()
    expected = play(venue, [b"".join(lines)])
    for line in lines:
        recv, frame = line.rstrip(b"\n").split(b" ", 1)
        for tape in codec.receive(int(recv), frame):
            assert tape.rows["frame_end"][: tape.n].tolist()[-1] == 1
            for i in range(tape.n):
                book.learn(tape.rows, i, tape.ticks, tape.qtys)
    assert book.read() == expected.book.read()
    assert book.read().distrust == 0
    assert codec.counts() == expected.codec.counts()


def test_a_newline_in_a_live_frame_is_one_unreadable_frame(venue: str) -> None:
    codec = MarketData(instrument(venue))
    for _ in codec.receive(S, b'{"e":"trade"\n,"x":1}'):
        pass
    assert codec.frames == 1
    assert codec.counts()["unreadable"] == 1


def test_one_frame_ends_once(venue: str, capture: Path) -> None:
    """The deltas that a snapshot releases belong to the snapshot's frame."""
    lines = frames(capture)[:200]
    ends = 0
    for tape in MarketData(instrument(venue)).read(b"".join(lines)):
        ends += int(tape.rows["frame_end"][: tape.n].sum())
        if BOOK_RESET in tape.rows["kind"][: tape.n]:
            assert tape.n > 1
            assert tape.rows["frame_end"][: tape.n].tolist() == [0] * (tape.n - 1) + [1]
            assert len(set(tape.rows["recv"][: tape.n].tolist())) == 1
    assert ends == len(lines)


def test_a_cut_frame_loses_the_book_until_a_later_snapshot(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    depth = depth_at(lines)
    cut, known, late = depth[60], depth[80], depth[85]
    reference = play(venue, [b"".join(lines[: known + 1])])
    u = last_id(lines[known])
    assert reference.book.read().book_id == u
    lines.insert(late + 1, snapshot_line(venue, reference.book, u, stamp(lines[late])))
    before = play(venue, [b"".join(lines[:cut] + lines[cut + 1 : late + 1])])
    assert before.lost == [LOST_GAP]
    assert before.codec.gaps == 1
    assert not before.codec.sync.synced
    assert before.book.read().distrust != 0
    assert before.lines[-1].u < last_id(lines[cut])
    assert_true(before, venue, capture)
    after = play(venue, [b"".join(lines[:cut] + lines[cut + 1 :])])
    assert after.lost == [LOST_GAP]
    assert after.codec.sync.resyncs == 2
    assert after.book.read().distrust == 0
    assert_true(after, venue, capture)
    # The delta that ends at the snapshot is stale on spot and is the bridge on futures.
    skipped = 20 + (venue == "binance-spot")
    whole = truth(venue, capture).lines
    assert len(after.lines) == len(whole) - skipped
    assert after.lines[-500:] == whole[-500:]


def test_a_duplicate_depth_frame_changes_nothing(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    for at in reversed(depth_at(lines)[::10]):
        lines.insert(at, lines[at])
    run = play(venue, [b"".join(lines)])
    assert run.lines == truth(venue, capture).lines
    assert run.lost == []
    assert run.codec.counts()["old_deltas"] > 10


def test_swapped_depth_frames_are_a_gap(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    a, b = depth_at(lines)[60:62]
    lines[a], lines[b] = lines[b], lines[a]
    run = play(venue, [b"".join(lines)])
    assert run.lost == [LOST_GAP]
    assert run.book.read().distrust != 0
    assert 40 < len(run.lines) < 61
    assert_true(run, venue, capture)


def test_without_a_snapshot_nothing_is_trusted(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    del lines[snapshot_at(lines)]
    run = play(venue, [b"".join(lines)])
    assert run.lines == []
    assert run.lost == []
    assert run.book.read().synced == 0
    assert run.codec.sync.take_snapshot_request(stamp(lines[-1]))


def test_a_late_snapshot_releases_what_was_buffered(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    snapshot = lines.pop(snapshot_at(lines))
    recv = stamp(snapshot) + 10 * S
    at = next(i for i, line in enumerate(lines) if stamp(line) >= recv)
    lines.insert(at, b"%d %b" % (recv, snapshot.split(b" ", 1)[1]))
    assert play(venue, [b"".join(lines[:at])]).lines == []
    assert play(venue, [b"".join(lines)]).lines == truth(venue, capture).lines


def test_a_stream_joined_with_itself(venue: str, capture: Path) -> None:
    text = b"".join(frames(capture))
    run = play(venue, [text, text])
    assert run.lost == [LOST_DISCONNECT]
    assert run.lines == truth(venue, capture).lines * 2


@pytest.mark.parametrize("broken", [b'{"e":"depthUpdate","E":1', b'{"stream":"x@depth","data":{'])
def test_an_unreadable_depth_frame_loses_the_book(venue: str, capture: Path, broken: bytes) -> None:
    lines = list(frames(capture))
    at = depth_at(lines)[60]
    lines.insert(at, b"%d %b\n" % (stamp(lines[at]), broken))
    run = play(venue, [b"".join(lines)])
    assert run.lost == [LOST_UNREADABLE]
    assert run.codec.counts()["unreadable_depth"] == 1
    assert run.book.read().distrust != 0
    assert_true(run, venue, capture)


def test_an_unreadable_trade_does_not(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    at = next(i for i, line in enumerate(lines) if i > 500 and b'"trade"' in line)
    lines[at] = lines[at].replace(b'"p":"', b'"p":"-')
    run = play(venue, [b"".join(lines)])
    assert run.lines == truth(venue, capture).lines
    assert run.lost == []
    assert run.codec.counts()["unreadable"] == 1
    assert run.trades == truth(venue, capture).trades - 1


def test_resync_begins_anew(venue: str, capture: Path) -> None:
    lines = list(frames(capture))
    depth = depth_at(lines)
    run = play(venue, [b"".join(lines[: depth[60] + 1])])
    assert run.book.read().distrust == 0
    recv = stamp(lines[depth[60]]) + 5
    tape = run.codec.resync(recv)
    assert tape.n == 1
    assert (tape.rows[0]["kind"], tape.rows[0]["side"]) == (BOOK_LOST, LOST_RESYNC)
    assert (tape.rows[0]["recv"], tape.rows[0]["frame_end"]) == (recv, 1)
    run.book.learn(tape.rows, 0, tape.ticks, tape.qtys)
    assert LOST_NAMES[LOST_RESYNC] in repr(run.book)
    assert run.codec.sync.deadline() is None
    rest = play(venue, [b"".join(lines[depth[60] + 1 : depth[70]])], run.codec, run.book)
    assert rest.lines == []
    assert run.codec.sync.take_snapshot_request(recv)
    reference = play(venue, [b"".join(lines[: depth[65] + 1])])
    snapshot = snapshot_line(venue, reference.book, last_id(lines[depth[65]]), recv + S)
    tail = [snapshot, *lines[depth[70] :]]
    tail = [line for line in tail if stamp(line) >= recv]
    after = play(venue, [b"".join(tail)], run.codec, run.book)
    assert after.lost == []
    assert_true(after, venue, capture)
    assert after.lines[-500:] == truth(venue, capture).lines[-500:]


def test_an_unusable_instrument_is_refused() -> None:
    fine = instrument("binance-spot")
    with pytest.raises(ValueError, match="finer"):
        MarketData(Instrument(fine.venue, "X", "X", "Y", Decimal("1e-11"), fine.lot))
    with pytest.raises(ValueError, match="no market-data codec"):
        MarketData(Instrument("kraken-spot", "X", "X", "Y", fine.tick, fine.lot))


def test_repr_says_where_the_codec_stands(venue: str) -> None:
    codec = MarketData(instrument(venue))
    assert repr(codec) == "<MarketData frames=0 gaps=0 <BookSync buffering 0 failures=0>>"
