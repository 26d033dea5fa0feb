import gzip
import json
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.publictext import PublicText, Shown, decimals
from bot.venues.binance.tally import Tally, Trade

SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))

# One received message of each kind and product.
RECEIVED = [
    (
        SPOT,
        b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000",'
        b'"q":"0.02000000","T":1723161255342,"m":true,"M":true}',
    ),
    (
        SPOT,
        b'{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000",'
        b'"a":"61837.64000000","A":"1.54698000"}',
    ),
    (
        SPOT,
        b'{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":50093239203,"u":50093239207,'
        b'"b":[["55653.87000000","0.00000000"]],"a":[["61838.04000000","0.32332000"]]}',
    ),
    (
        USDM,
        b'{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
        b'"p":"61800.30","q":"0.006","X":"MARKET","m":false}',
    ),
    (
        USDM,
        b'{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
        b'"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}',
    ),
    (
        USDM,
        b'{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
        b'"U":5123107832006,"u":5123107837557,"pu":5123107831937,'
        b'"b":[["58710.20","0.014"]],"a":[]}',
    ),
]


def levels(instrument: Instrument, text: PublicText, found: list[list[str]]) -> Any:
    one = 10**text.qty_decimals
    return [(int(Decimal(p) / instrument.tick), int(Decimal(q) * one)) for p, q in found]


def written(instrument: Instrument, message: bytes) -> bytes:
    """A received message, read with other means and written by ours."""
    text, m = PublicText(instrument), json.loads(message)
    at = m.get("T", 0)
    if "lastUpdateId" in m:
        sides = (levels(instrument, text, m[side]) for side in ("bids", "asks"))
        return text.snapshot(m.get("E", 0), at, Shown(m["lastUpdateId"], *sides))
    match m.get("e", "bookTicker"):
        case "trade":
            tick = int(Decimal(m["p"]) / instrument.tick)
            lots = int(Decimal(m["q"]) / instrument.lot)
            side = Side.SELL if m["m"] else Side.BUY
            return text.trade(m["E"], at, m["t"], tick, lots, side)
        case "bookTicker":
            sides = (levels(instrument, text, [[m[p], m[q]]]) for p, q in ("bB", "aA"))
            return text.book_ticker(m.get("E", 0), at, Shown(m["u"], *sides))
        case "depthUpdate":
            sides = (levels(instrument, text, m[side]) for side in "ba")
            return text.depth_update(m["E"], at, m["U"], m.get("pu", -1), Shown(m["u"], *sides))
    raise AssertionError(message)


@pytest.mark.parametrize(("instrument", "message"), RECEIVED)
def test_messages_are_written_as_received(instrument: Instrument, message: bytes) -> None:
    assert written(instrument, message) == message


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_every_frame_of_a_capture_is_written_byte_for_byte(
    instrument: Instrument, request: pytest.FixtureRequest
) -> None:
    name = "spot_capture" if instrument is SPOT else "usdm_capture"
    kinds = set()
    with gzip.open(request.getfixturevalue(name)) as lines:
        for line in islice(lines, 2_000):
            frame = line.split(b" ", 1)[1].rstrip()
            found = frame.find(b'","data":')
            message = frame if found < 0 else frame[found + 9 : -1]
            kinds.add("snapshot" if found < 0 else json.loads(message).get("e"))
            if b'"X":"MARKET"' in message or b'"X"' not in message:
                assert written(instrument, message) == message
    assert len(kinds) == 4


def tally_of(instrument: Instrument) -> Tally:
    tally = Tally(1_000)
    for i, (tick, lots, side) in enumerate(
        [(100_000, 3, Side.BUY), (100_010, 5, Side.BUY), (99_990, 2, Side.SELL)]
    ):
        tally.add(Trade(61_000 + i, 7 + i, tick, lots, side), i)
    return tally


def test_statistics_of_a_day() -> None:
    tally, book = tally_of(SPOT), Shown(9, [(99_990, 100_000_000)], [(100_010, 50_000_000)])
    day = json.loads(PublicText(SPOT).day(62_000, tally, book))
    assert day == {
        "e": "24hrTicker",
        "E": 62_000,
        "s": "BTCUSDT",
        "x": "1000.00000000",
        "b": "999.90000000",
        "B": "1.00000000",
        "a": "1000.10000000",
        "A": "0.50000000",
        "p": "-0.10000000",
        "P": "-0.010",
        "w": "1000.03000000",
        "c": "999.90000000",
        "Q": "0.00002000",
        "o": "1000.00000000",
        "h": "1000.10000000",
        "l": "999.90000000",
        "v": "0.00010000",
        "q": "0.10000300",
        "O": 1_000,
        "C": 62_000,
        "F": 7,
        "L": 9,
        "n": 3,
    }
    usdm = json.loads(PublicText(USDM).day(62_000, tally_of(USDM), book))
    assert set(usdm) == set(day) - {"x", "b", "B", "a", "A"}
    mini = json.loads(PublicText(SPOT).mini_day(62_000, tally))
    assert mini.pop("e") == "24hrMiniTicker"
    assert mini == {key: day[key] for key in "Escohlvq"}


def test_a_day_without_trades_divides_by_nothing() -> None:
    day = json.loads(PublicText(USDM).day(5, Tally(0), Shown(1, [], [])))
    assert (day["c"], day["w"], day["P"], day["n"]) == ("0.00", "0.00", "0.000", 0)


def test_candles() -> None:
    text, tally = PublicText(USDM), tally_of(USDM)
    ends, candle = tally.candles("1m")[-1]
    k = json.loads(text.candle(62_000, "1m", ends, candle))["k"]
    assert (k["t"], k["T"], k["x"], k["o"], k["c"]) == (
        60_000,
        119_999,
        False,
        "10000.00",
        "9999.00",
    )
    assert (k["v"], k["q"], k["V"], k["Q"]) == (
        "0.010",
        "100.00300000",
        "0.008",
        "80.00500000",
    )
    assert json.loads(text.candle(120_000, "1m", ends, candle))["k"]["x"] is True
    row = json.loads(text.candle_row(ends, candle))
    assert row == [
        60_000,
        *(k[key] for key in "ohlcv"),
        119_999,
        k["q"],
        3,
        k["V"],
        k["Q"],
        "0",
    ]


def test_members_are_those_of_the_venues_examples(wire_messages: list[Path]) -> None:
    text, tally = PublicText(USDM), tally_of(USDM)
    ended = tally.end_aggregate()
    assert ended is not None
    ours = {
        "agg_trade_stream": text.aggregate(1, ended),
        "ticker_stream": text.day(1, tally, Shown(1, [], [])),
        "kline_stream_open": text.candle(1, "1m", *tally.candles("1m")[0]),
        "book_ticker_stream": text.book_ticker(1, 1, Shown(1, [(1, 1)], [(2, 1)])),
        "depth_update_stream": text.depth_update(1, 1, 1, 0, Shown(1, [(1, 1)], [])),
    }
    seen = 0
    for path in wire_messages:
        if path.stem in ours:
            seen += 1
            example = json.loads(path.read_bytes())
            mine = json.loads(ours[path.stem])
            # `st` and `ps` are younger than the captures and mean nothing for one symbol.
            assert set(mine) == set(example) - {"st", "ps"}, path.stem
            assert set(mine.get("k", ())) == set(example.get("k", ()))
    assert seen == len(ours)


def test_spot_aggregates_carry_the_ignored_member() -> None:
    tally = tally_of(SPOT)
    ended = tally.end_aggregate()
    assert ended is not None
    message = json.loads(PublicText(SPOT).aggregate(5, ended))
    assert (message["m"], message["M"], message["f"], message["l"]) == (True, True, 9, 9)


def test_partial_books_are_a_snapshot_on_spot_and_an_update_on_usdm() -> None:
    book = Shown(9, [(5, 1)], [(6, 1)])
    assert set(json.loads(PublicText(SPOT).partial(1, 1, 8, 7, book))) == {
        "lastUpdateId",
        "bids",
        "asks",
    }
    usdm = json.loads(PublicText(USDM).partial(1, 1, 8, 7, book))
    assert (usdm["e"], usdm["U"], usdm["u"], usdm["pu"]) == ("depthUpdate", 8, 9, 7)


def test_an_empty_book_has_a_touch_of_nothing() -> None:
    message = json.loads(PublicText(SPOT).book_ticker(1, 1, Shown(3, [], [])))
    assert (message["b"], message["A"]) == ("0.00000000", "0.00000000")


def test_whole_steps_have_no_point() -> None:
    instrument = Instrument("binance-usdm", "XUSDT", "X", "USDT", Decimal("5"), Decimal("10"))
    text = PublicText(instrument)
    assert (text.price(3), text.lots(7)) == (b"15", b"70")
    assert decimals(Decimal("1E+2")) == 0


def test_what_the_venue_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="binance-coinm"):
        PublicText(Instrument("binance-coinm", "X", "X", "USD", Decimal(1), Decimal(1)))
    with pytest.raises(ValueError, match="finer"):
        PublicText(Instrument("binance-spot", "X", "X", "Y", Decimal("1e-9"), Decimal(1)))
