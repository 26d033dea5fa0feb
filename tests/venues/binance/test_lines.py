"""Frames one by one and in bulk: the same rows, the same book, each trade once."""

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.domain.tape import NOTHING, TRADED
from bot.journal.capture import chunks
from bot.market.book import Book
from bot.venues.binance.marketdata import MarketData

INSTRUMENT = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
TRADE = (
    '{"e":"trade","E":1723161253900,"T":1723161253899,"s":"BTCUSDT","t":%d,"p":"61800.10",'
    '"q":"0.010","X":"MARKET","m":false}'
)
Seen = list[tuple[Any, ...]]


def rows_of(codec: MarketData, tapes: Any, book: Book) -> Seen:
    found: Seen = []
    for tape in tapes:
        for i in range(tape.n):
            flags = book.learn(tape.rows, i, tape.ticks, tape.qtys)
            # Where a frame stands in its text differs, and where its levels lie on the tape.
            row = {name: tape.rows[i][name] for name in tape.rows.dtype.names}
            row.pop("text_end")
            row.pop("lo")
            found.append((*row.values(), flags))
    found.append((codec.gaps, *codec.counts().values()))
    return found


def one_by_one_and_in_bulk(lines: list[bytes]) -> tuple[Seen, Seen]:
    single, bulk = MarketData(INSTRUMENT), MarketData(INSTRUMENT)
    single_book, bulk_book = Book(), Book()
    alone: Seen = []
    together: Seen = []
    for line in lines:
        recv, _, frame = line.rstrip(b"\n").partition(b" ")
        alone += rows_of(single, single.receive(int(recv), frame), single_book)[:-1]
    together += rows_of(bulk, bulk.read(b"".join(lines)), bulk_book)[:-1]
    assert single.counts() == bulk.counts()
    assert (single.gaps, single.frames) == (bulk.gaps, bulk.frames)
    assert single_book.memory.tobytes() == bulk_book.memory.tobytes()
    return alone, together


def test_a_real_stream(usdm_capture: Path) -> None:
    lines = next(chunks([usdm_capture])).splitlines(keepends=True)[:4_000]
    alone, together = one_by_one_and_in_bulk(lines)
    assert len(alone) >= len(lines)
    assert alone == together


def test_a_real_stream_with_damage(usdm_capture: Path) -> None:
    lines = next(chunks([usdm_capture])).splitlines(keepends=True)[:4_000]
    draw = random.Random(5)
    for at in draw.sample(range(len(lines)), 600):
        recv, _, frame = lines[at].rstrip(b"\n").partition(b" ")
        cut = draw.randrange(len(frame))
        damaged = draw.choice(
            [
                frame[:cut],
                frame[:cut] + b"}",
                frame[:cut] + bytes([draw.randrange(32, 256)]) + frame[cut + 1 :],
                frame[: cut // 2] + frame[cut:],
                frame + b"}",
                frame + b" ",
                b"}",
                b"",
            ]
        )
        lines[at] = b"%b %b\n" % (recv, damaged)
    alone, together = one_by_one_and_in_bulk(lines)
    assert alone == together


@pytest.mark.parametrize("in_bulk", [False, True])
def test_each_trade_counts_once(in_bulk: bool) -> None:
    codec = MarketData(INSTRUMENT)
    ids = [7, 8, 7, 8, 9, 9, 6, 10]
    frames = [(TRADE % n).encode() for n in ids]
    kinds: list[int] = []
    if in_bulk:
        text = b"".join(b"%d %b\n" % (1723161254 * 10**9, frame) for frame in frames)
        for tape in codec.read(text):
            kinds += tape.rows["kind"][: tape.n].tolist()
    else:
        for frame in frames:
            for tape in codec.receive(1723161254 * 10**9, frame):
                kinds += tape.rows["kind"][: tape.n].tolist()
    new = [True, True, False, False, True, False, False, True]
    assert kinds == [TRADED if is_new else NOTHING for is_new in new]
    assert codec.counts()["old_trades"] == 4


def test_ids_that_begin_anew_behind_a_lost_feed_count() -> None:
    codec = MarketData(INSTRUMENT)
    now = 1723161254 * 10**9
    for trade_id in (900, 901):
        list(codec.receive(now, (TRADE % trade_id).encode()))
    codec.resync(now)
    (tape,) = codec.receive(now, (TRADE % 1).encode())
    assert tape.rows[0]["kind"] == TRADED
