import gzip
import json
import random
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.tape import BOOK_CHANGED, BOOK_RESET, NOTHING, ROW, TOUCH_CHANGED, TRADED
from bot.venues.binance.frames import (
    FIRST_REASON,
    FOREIGN,
    OLD_TRADE,
    OTHER_EVENT,
    REASONS,
    UNREADABLE,
    UNREADABLE_DEPTH,
)
from bot.venues.binance.lines import DONE, FULL, decode_lines
from bot.venues.booksync import CHAIN_FIELDS

UNIT = Decimal("1e-10")
SPOT_TICK = Decimal("0.01")
USDM_TICK = Decimal("0.1")
INT64 = 2**63

Event = tuple[Any, ...]

ROWS: Any = np.zeros(4_096, ROW)
MEMORY = ROWS.view(np.uint8)
TICKS = np.zeros(1 << 16, np.int64)
QTYS = np.zeros(1 << 16)


class Kernel:
    """The compiled decoder, with its counts; depth is never admitted, each frame as it is."""

    def __init__(self, tick: Decimal, symbol: str = "BTCUSDT") -> None:
        self.symbol = np.frombuffer(symbol.encode(), np.uint8)
        self.tick_units = int(tick / UNIT)
        self.counts = np.zeros(8 + REASONS, np.int64)
        self.recv: list[int] = []

    def read(self, text: bytes) -> list[tuple[Event | None, int]]:
        """What each line held and, for nothing, why."""
        chain = np.zeros(CHAIN_FIELDS, np.int64)
        found: list[tuple[Event | None, int]] = []
        self.recv = []
        at = 0
        while at < len(text):
            n, at, why, _ = decode_lines(
                text,
                at,
                MEMORY,
                TICKS,
                QTYS,
                self.symbol,
                self.tick_units,
                chain,
                self.counts,
                0,
            )
            assert n > 0 or why != FULL
            assert at == len(text) or why != DONE
            rows = ROWS[:n].tolist()
            found.extend((event_of(row), row[14]) for row in rows)
            self.recv.extend(row[1] for row in rows)
        return found

    def one(self, frame: bytes) -> tuple[Event | None, int]:
        (found,) = self.read(b"1723161253937085768 " + frame.replace(b"\n", b" ") + b"\n")
        return found


def event_of(row: tuple[Any, ...]) -> Event | None:
    r = dict(zip(ROW.names or (), row, strict=True))
    lo, middle = r["lo"], r["lo"] + r["n_bid"]
    hi = middle + r["n_ask"]
    kind = r["kind"]
    if kind == NOTHING:
        return None
    head = (kind, r["exch"], r["matched"])
    if kind == BOOK_CHANGED:
        head += (r["first_id"], r["last_id"], r["prev_id"])
    else:
        head += (r["last_id"],)
    if kind in (BOOK_CHANGED, BOOK_RESET):
        levels = list(zip(TICKS[lo:hi].tolist(), QTYS[lo:hi].tolist(), strict=True))
        return (*head, levels[: r["n_bid"]], levels[r["n_bid"] :])
    if kind == TOUCH_CHANGED:
        return (*head, r["bid"], r["bid_qty"], r["ask"], r["ask_qty"])
    assert kind == TRADED
    return (*head, r["bid"], r["bid_qty"], r["side"])


class Unreadable(Exception):
    """The reference does not read this frame."""


def must(condition: object) -> None:
    if not condition:
        raise Unreadable


def whole(value: object) -> int:
    must(type(value) is int and 0 <= value < INT64)
    return int(value)  # type: ignore[call-overload, no-any-return]


def ns(value: object) -> int:
    stamp = whole(value)
    stamp *= 10**6 if stamp < 10**14 else 10**3 if stamp < 10**17 else 1
    must(stamp < INT64)
    return stamp


def decimal(value: object) -> Decimal:
    must(type(value) is str and re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value), re.ASCII))
    return Decimal(str(value))


def price(value: object, tick: Decimal) -> int:
    try:
        ticks = decimal(value) / tick
    except InvalidOperation as error:
        raise Unreadable from error
    must(ticks == int(ticks) and ticks > 0)
    return int(ticks)


def levels(value: object, tick: Decimal) -> list[tuple[int, float]]:
    must(type(value) is list)
    found = []
    for level in value:  # type: ignore[attr-defined]
        must(type(level) is list and len(level) == 2)
        found.append((price(level[0], tick), float(decimal(level[1]))))
    return found


def no_constant(_: str) -> None:
    raise Unreadable


def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    must(len({key for key, _ in pairs}) == len(pairs))
    return dict(pairs)


def loads(text: str) -> Any:
    """JSON whose keys stand once; zeros in front of a number are forgiven."""
    text = re.sub(r"(?<=:)0+(?=[0-9])", "", text)
    return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_twins, strict=False)


def is_json(frame: bytes) -> bool:
    """Whether it is JSON at all; the kernel skims over values that nobody needs."""
    try:
        loads(frame.decode("latin-1"))
    except (ValueError, Unreadable):
        return False
    return True


def reference(frame: bytes, tick: Decimal, symbol: str = "BTCUSDT") -> Event | None:
    """What a frame says according to a JSON library and exact decimals; None for nothing.

    Event names and the snapshot's key count by their first eight letters.
    """
    try:
        return _reference(frame, tick, symbol)
    except (ValueError, KeyError, Unreadable, RecursionError, OverflowError):
        return None


def _reference(frame: bytes, tick: Decimal, symbol: str) -> Event | None:
    d = loads(frame.decode("latin-1"))
    must(type(d) is dict)
    if "stream" in d and "data" in d:
        d = d["data"]
        must(type(d) is dict)
    event = d.get("e", "")
    must(type(event) is str)
    event = event[:8]
    snapshot = [key for key in d if key[:8] == "lastUpda"]
    times = (ns(d.get("E", 0)), ns(d.get("T", 0)) or ns(d.get("E", 0)))
    must("s" not in d or d["s"] == symbol)
    if snapshot and event == "":
        return (
            BOOK_RESET,
            *times,
            whole(d[snapshot[-1]]),
            levels(d["bids"], tick),
            levels(d["asks"], tick),
        )
    must("s" in d)
    if event == "depthUpd":
        first, last = whole(d["U"]), whole(d["u"])
        must(first <= last and "E" in d)
        ids = (first, last, whole(d["pu"]) if "pu" in d else -1)
        return (BOOK_CHANGED, *times, *ids, levels(d["b"], tick), levels(d["a"], tick))
    if event in ("bookTick", ""):
        bid, ask = price(d["b"], tick), price(d["a"], tick)
        sizes = float(decimal(d["B"])), float(decimal(d["A"]))
        must(bid < ask and min(sizes) > 0)
        return (TOUCH_CHANGED, *times, whole(d["u"]), bid, sizes[0], ask, sizes[1])
    if event == "trade":
        must(d.get("X", "MARKET") == "MARKET" and "E" in d and type(d["m"]) is bool)
        qty = float(decimal(d["q"]))
        must(qty > 0)
        side = -1 if d["m"] else 1
        return (TRADED, *times, whole(d["t"]), price(d["p"], tick), qty, side)
    return None


@cache
def real(path: Path) -> tuple[bytes, ...]:
    """Every seventh frame of a capture, and its snapshot."""
    with gzip.open(path) as file:
        lines = file.readlines()
    snapshot = next(line for line in lines[:100] if b'"lastUpdateId"' in line)
    return tuple(line.rstrip(b"\n").split(b" ", 1)[1] for line in (snapshot, *lines[::7]))


def bulk(frames: Iterable[bytes]) -> bytes:
    return b"".join(b"1723161253937085768 %b\n" % frame for frame in frames)


@pytest.fixture(params=["spot", "usdm"])
def market(request: pytest.FixtureRequest) -> tuple[Path, Decimal]:
    path = request.getfixturevalue(f"{request.param}_capture")
    return path, SPOT_TICK if request.param == "spot" else USDM_TICK


def test_real_frames_are_read_as_the_reference_reads_them(market: tuple[Path, Decimal]) -> None:
    path, tick = market
    frames = real(path)
    kernel = Kernel(tick)
    kinds = set()
    for frame, (event, _) in zip(frames, kernel.read(bulk(frames)), strict=True):
        assert event == reference(frame, tick), frame[:300]
        kinds.add(event and event[0])
    assert kinds >= {BOOK_CHANGED, BOOK_RESET, TOUCH_CHANGED, TRADED}
    assert kernel.counts[8 + UNREADABLE] == kernel.counts[8 + UNREADABLE_DEPTH] == 0
    assert kernel.counts.sum() == len(frames)


PIECES = (
    b"NaN",
    b"-1",
    b"-",
    b"1e400",
    b"9" * 30,
    b"0" * 30,
    b"Infinity",
    b"null",
    b'"',
    b"\\",
    b'\\"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b".",
    b" ",
    b"\x00",
    b"\xff",
    b'"u":1,',
    b'["1.00","1"],',
)


def mutated(frame: bytes, draw: random.Random) -> bytes:
    """One to three faults of a line: flipped bits and bytes, cuts, insertions, values."""
    text = bytearray(frame)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at = draw.randrange(len(text) + 1)
        what = draw.randrange(7)
        if what == 0 and at < len(text):
            text[at] ^= 1 << draw.randrange(8)
        elif what == 1 and at < len(text):
            text[at] = draw.randrange(256)
        elif what == 2:
            del text[at:]
        elif what == 3:
            del text[at : at + draw.randint(1, 12)]
        elif what == 4:
            text[at:at] = draw.choice(PIECES)
        elif what == 5:
            text[at:at] = text[at : at + draw.randint(1, 30)]
        else:
            numbers = list(re.finditer(rb"[0-9.]+", bytes(text)))
            if numbers:
                chosen = draw.choice(numbers)
                value = draw.choice(PIECES[:8])
                text[chosen.start() : chosen.end()] = value
    return bytes(text).replace(b"\n", b" ")


def test_mutated_frames_in_bulk(market: tuple[Path, Decimal]) -> None:
    """50,000 of each market: none raises, and what is read is what the reference reads."""
    path, tick = market
    draw = random.Random(7)
    short = [frame for frame in real(path) if len(frame) < 2_000]
    frames = [mutated(draw.choice(short), draw) for _ in range(50_000)]
    kernel = Kernel(tick)
    got = kernel.read(bulk(frames))
    repeated = kernel.counts[FIRST_REASON + OLD_TRADE]  # counted as trades, too
    assert len(got) == kernel.counts.sum() - repeated == len(frames)
    differs = [
        (frame, event)
        for frame, (event, _) in zip(frames, got, strict=True)
        if event is not None and event != reference(frame, tick)
    ]
    wrong = [(frame, event) for frame, event in differs if is_json(frame)]
    assert wrong[:3] == [], len(wrong)
    read = sum(event is not None for event, _ in got)
    assert len(differs) < read / 20  # rubbish amid a value that nobody needs
    assert 1_000 < read < 25_000  # a flipped digit is still a frame; most other faults are not
    assert kernel.counts[8 + UNREADABLE] > 10_000
    assert kernel.counts[8 + UNREADABLE_DEPTH] > 500


@given(data=st.data())
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_change_of_a_real_frame(market: tuple[Path, Decimal], data: st.DataObject) -> None:
    path, tick = market
    frames = [frame for frame in real(path) if len(frame) < 2_000]
    frame = frames[data.draw(st.integers(0, len(frames) - 1))]
    lo = data.draw(st.integers(0, len(frame)))
    hi = data.draw(st.integers(lo, min(len(frame), lo + 20)))
    piece = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(PIECES)))
    changed = (frame[:lo] + piece + frame[hi:]).replace(b"\n", b" ")
    event, _ = Kernel(tick).one(changed)
    assert event is None or event == reference(changed, tick) or not is_json(changed)


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_any_bytes(text: bytes) -> None:
    kernel = Kernel(SPOT_TICK)
    got = kernel.read(text)
    lines = text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    assert len(got) == kernel.counts.sum() == lines


def test_every_cut_of_a_frame_is_nothing(market: tuple[Path, Decimal]) -> None:
    path, tick = market
    kernel = Kernel(tick)
    for word in (b'"depthUpdate"', b'"trade"', b"@bookTicker"):
        frame = next(frame for frame in real(path) if word in frame and len(frame) < 4_000)
        assert kernel.one(frame)[0] is not None
        got = kernel.read(bulk(frame[:i] for i in range(len(frame))))
        assert [event for event, _ in got if event is not None] == []


def test_wire_messages(wire_messages: Sequence[Path]) -> None:
    """Documented messages: what is flow or book is read, the rest is nothing."""
    expected = {"book_ticker_stream", "depth_update_stream", "trade_stream"}
    for path in wire_messages:
        message = json.loads(path.read_bytes())
        frame = json.dumps(message, separators=(",", ":")).encode()
        symbol = message.get("s", "BTCUSDT")
        kernel = Kernel(Decimal("0.0001"), symbol)
        event, why = kernel.one(frame)
        assert event == reference(frame, Decimal("0.0001"), symbol), path.name
        assert (event is not None) == (path.stem in expected), path.name
        if event is None:
            assert why == OTHER_EVENT, path.name


DEPTH = (
    b'{"e":"depthUpdate","E":1723161255208,"T":1723161255200,"s":"BTCUSDT","U":5,"u":9,"pu":4,'
    b'"b":[["61737.60","0.500"]],"a":[["61737.70","0.000"],["61740.00","25.42618900"]]}'
)
TRADE = (
    b'{"e":"trade","E":1723161255343,"T":1723161255342,"s":"BTCUSDT","t":77,"p":"61837.6",'
    b'"q":"0.02","X":"MARKET","m":true}'
)
TICKER = (
    b'{"u":400900217,"s":"BTCUSDT","b":"61837.60","B":"3.78826000","a":"61837.70",'
    b'"A":"25.42618900"}'
)
DEPTH_EVENT = (
    BOOK_CHANGED,
    1723161255208000000,
    1723161255200000000,
    5,
    9,
    4,
    [(617376, 0.5)],
    [(617377, 0.0), (617400, 25.426189)],
)


def test_depth_bare_and_wrapped() -> None:
    kernel = Kernel(USDM_TICK)
    assert kernel.one(DEPTH)[0] == DEPTH_EVENT
    assert kernel.one(b'{"stream":"btcusdt@depth@100ms","data":' + DEPTH + b"}")[0] == DEPTH_EVENT
    assert kernel.one(DEPTH + b"}")[0] is None
    assert kernel.one(b'{"stream":"btcusdt@depth@100ms","data":' + DEPTH)[0] is None


def test_unknown_keys_are_skipped() -> None:
    """COIN-M states the pair as "ps"; more keys may come."""
    kernel = Kernel(USDM_TICK)
    for extra in (b'"ps":"BTCUSD"', b'"st":1', b'"new":{"a":[1,"]\\"}",{}],"b":null}'):
        frame = DEPTH.replace(b'"pu":4', extra + b',"pu":4')
        assert kernel.one(frame)[0] == DEPTH_EVENT
        assert kernel.one(DEPTH[:-1] + b"," + extra + b"}")[0] == DEPTH_EVENT


def test_spot_ticker_without_time() -> None:
    expected = (TOUCH_CHANGED, 0, 0, 400900217, 618376, 3.78826, 618377, 25.426189)
    assert Kernel(USDM_TICK).one(TICKER)[0] == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"b":"61837.60"', b'"b":"61837.70"'),  # locked
        (b'"b":"61837.60"', b'"b":"0.00"'),
        (b'"B":"3.78826000"', b'"B":"0.00"'),
        (b'"b":"61837.60"', b'"b":"61837.65"'),  # between two ticks
        (b'"b":"61837.60"', b'"b":61837.60'),
        (b'"b":"61837.60"', b'"b":"-61837.60"'),
        (b'"b":"61837.60"', b'"b":"6.18376e4"'),
        (b'"b":"61837.60"', b'"b":"NaN"'),
        (b'"b":"61837.60"', b'"b":"61837."'),
        (b'"b":"61837.60"', b'"b":".5"'),
        (b'"b":"61837.60"', b'"b":""'),
        (b'"b":"61837.60"', b'"b":"%b"' % (b"9" * 19)),
        (b'"A":"25.42618900"', b'"A":"%b"' % (b"9" * 400)),
        (b'"u":400900217', b'"u":9223372036854775808'),
        (b'"u":400900217', b'"u":"400900217"'),
        (b'"u":400900217', b'"u":-1'),
        (b'"u":400900217', b'"u":1e400'),
        (b'"u":400900217', b'"u":4.5'),
    ],
)
def test_unusable_tickers(old: bytes, new: bytes) -> None:
    assert old in TICKER
    assert Kernel(USDM_TICK).one(TICKER.replace(old, new))[0] is None


@pytest.mark.parametrize(
    ("text", "ticks"), [("100", 1000), ("100.0000000000", 1000), ("0.1", 1), ("00.30", 3)]
)
def test_prices_of_any_length(text: str, ticks: int) -> None:
    frame = DEPTH.replace(b"61737.60", text.encode())
    event, _ = Kernel(USDM_TICK).one(frame)
    assert event is not None
    assert event[6] == [(ticks, 0.5)]


@given(st.decimals(0, 9 * 10**7, places=8))  # mantissas below 2^53
@settings(deadline=None, max_examples=200)
def test_quantities_are_the_nearest_float(qty: Decimal) -> None:
    """Displayed quantities are never rounded to the lot."""
    event, _ = Kernel(USDM_TICK).one(DEPTH.replace(b'"0.500"', b'"%b"' % f"{qty:f}".encode()))
    assert event is not None
    assert event[6] == [(617376, float(qty))]


def test_trades_are_flow_only_from_the_market() -> None:
    kernel = Kernel(USDM_TICK)
    expected = (TRADED, 1723161255343000000, 1723161255342000000, 77, 618376, 0.02)
    assert kernel.one(TRADE)[0] == (*expected, -1)
    assert kernel.one(TRADE.replace(b"true", b"false"))[0] == (*expected, 1)
    assert kernel.one(TRADE.replace(b'"X":"MARKET",', b""))[0] == (*expected, -1)
    for kind in (b"INSURANCE_FUND", b"ADL", b"NA", b""):
        assert kernel.one(TRADE.replace(b"MARKET", kind)) == (None, OTHER_EVENT)
    assert kernel.one(TRADE.replace(b'"0.02"', b'"0.00"')) == (None, UNREADABLE)


@pytest.mark.parametrize("maker", [b"1", b"0", b"null", b'"true"', b"tru", b"falsy", b"True", b""])
def test_an_aggressor_that_is_not_stated_is_unreadable(maker: bytes) -> None:
    frame = TRADE.replace(b'"m":true', b'"m":' + maker)
    assert Kernel(USDM_TICK).one(frame) == (None, UNREADABLE)


@pytest.mark.parametrize("frame", [DEPTH, TRADE, TICKER])
@pytest.mark.parametrize("symbol", [b"BTCUSD", b"BTCUSDTX", b"ETHUSDT", b"btcusdt", b""])
def test_other_symbols_are_foreign(frame: bytes, symbol: bytes) -> None:
    kernel = Kernel(USDM_TICK)
    assert kernel.one(frame.replace(b"BTCUSDT", symbol)) == (None, FOREIGN)
    assert kernel.counts[8 + FOREIGN] == kernel.counts.sum() == 1


def test_a_foreign_symbol_with_another_tick_breaks_no_chain() -> None:
    kernel = Kernel(USDM_TICK)
    for frame in (DEPTH, TRADE, TICKER):
        odd = re.sub(rb'"(\d+)\.\d+"', rb'"\1.0012345"', frame.replace(b"BTCUSDT", b"DOGEUSDT"))
        assert odd != frame
        assert kernel.one(odd) == (None, FOREIGN)


def test_a_stranger_with_the_fields_of_a_ticker_is_not_one() -> None:
    frame = b'{"e":"otherTicker",' + TICKER[1:]
    assert Kernel(USDM_TICK).one(frame)[0] is None


@pytest.mark.parametrize("frame", [DEPTH, TRADE, TICKER])
def test_a_key_that_stands_twice_is_unreadable(frame: bytes) -> None:
    for key in json.loads(frame):
        value = json.dumps(json.loads(frame)[key], separators=(",", ":")).encode()
        twice = frame[:-1] + b',"%b":%b}' % (key.encode(), value)
        assert Kernel(USDM_TICK).one(twice)[0] is None, twice


def test_one_bit_makes_no_other_id() -> None:
    """`T` and `t` differ by one bit; a ticker has no trade id."""
    wide = TICKER[:-1] + b',"T":1723161256313,"E":1723161256313}'
    event, _ = Kernel(USDM_TICK).one(wide.replace(b'"T"', b'"t"'))
    assert event is None or event[3] == 400900217


@pytest.mark.parametrize("digits", [14, 17, 19, 25])
def test_a_time_that_no_int64_of_nanoseconds_holds_is_unreadable(digits: int) -> None:
    stamp = b"9" * digits
    found = Kernel(USDM_TICK).one(DEPTH.replace(b"1723161255208", stamp))
    assert found == (None, UNREADABLE_DEPTH)


def test_unreadable_depth_is_told_from_other_unreadable_frames() -> None:
    kernel = Kernel(USDM_TICK)
    assert kernel.one(DEPTH[:-5]) == (None, UNREADABLE_DEPTH)
    assert kernel.one(DEPTH.replace(b'"u":9', b'"u":4')) == (None, UNREADABLE_DEPTH)
    assert kernel.one(DEPTH.replace(b'"a":', b'"x":')) == (None, UNREADABLE_DEPTH)
    assert kernel.one(TRADE[:-5]) == (None, UNREADABLE)
    assert kernel.one(b"") == (None, UNREADABLE)
    assert kernel.one(b'{"result":null,"id":1}') == (None, OTHER_EVENT)


def test_snapshots() -> None:
    body = b'{"lastUpdateId":12,"bids":[["1.0","2"],["0.9","3.5"]],"asks":[["1.1","4"]]}'
    kernel = Kernel(USDM_TICK)
    event = (BOOK_RESET, 0, 0, 12, [(10, 2.0), (9, 3.5)], [(11, 4.0)])
    assert kernel.one(body)[0] == event
    timed = body.replace(b":12,", b':12,"E":1723161256501,"T":1723161256493,')
    got = kernel.one(timed)[0]
    assert got == (BOOK_RESET, 1723161256501000000, 1723161256493000000, *event[3:])
    empty = b'{"lastUpdateId":12,"bids":[],"asks":[]}'
    assert kernel.one(empty)[0] == (BOOK_RESET, 0, 0, 12, [], [])
    assert kernel.one(body[:-1])[0] is None


def test_receive_times_in_any_unit() -> None:
    kernel = Kernel(USDM_TICK)
    stamps = (b"1723161253937085768", b"1723161253937085", b"1723161253937")
    got = kernel.read(b"".join(stamp + b" " + TICKER + b"\n" for stamp in stamps))
    assert [event is not None for event, _ in got] == [True] * 3
    assert kernel.recv == [
        1723161253937085768,
        1723161253937085000,
        1723161253937000000,
    ]


@pytest.mark.parametrize("line", [b"x " + TICKER, TICKER, b"12", b"12 ", b" " + TICKER, b""])
def test_lines_without_a_receive_time(line: bytes) -> None:
    """They carry nothing, and the time is that of the line before."""
    kernel = Kernel(USDM_TICK)
    got = kernel.read(b"1723161253937 %b\n%b\n" % (TICKER, line))
    assert got[0][0] is not None
    assert got[1] == (None, UNREADABLE)
    assert kernel.recv in ([1723161253937000000] * 2, [1723161253937000000, 12_000_000])
