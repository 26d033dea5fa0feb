import json
import re
from collections.abc import Callable
from decimal import Decimal
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.venues.binance import text

READERS = (
    "read_word",
    "read_integer",
    "read_decimal",
    "read_price",
    "read_quantity",
    "read_levels",
    "skip_value",
    "read_flag",
    "nanoseconds",
)
TICK = 10**9  # 0.10 in units of 1e-10
INTEGER_READ_MAX = 9_223_372_036_854_775_799
EXACT_MAX = 2**53

# The same functions as plain Python, calling each other as plain Python.
PLAIN: dict[str, Any] = dict(vars(text))
for reader in (*READERS, "read_long_decimal", "read_fixed", "read_level", "spells"):
    PLAIN[reader] = FunctionType(getattr(text, reader).py_func.__code__, PLAIN, reader)


class Guarded(list[int]):
    """A buffer that cannot be read at or behind `end`, nor in front of its start."""

    def __init__(self, data: bytes, end: int) -> None:
        super().__init__(data)
        self.end = end

    def __getitem__(self, at: Any) -> Any:
        assert 0 <= at < self.end, f"read at {at}, the end is {self.end}"
        return super().__getitem__(at)


def call(name: str, data: bytes, end: int | None = None, at: int = 0, room: int = 8) -> Any:
    """The compiled reader over `data[at:end]`, held against the plain one over a guarded buffer.

    `read_levels` answers with the levels instead of how many there are.
    """
    end = len(data) if end is None else end
    # Levels are read up to a newline, everything else up to the end alone.
    data = data[:end] + b"\n" if name == "read_levels" else data
    limit = end + 1 if name == "read_levels" else end
    got = _run(getattr(text, name), name, data, at, end, room)
    assert got == _run(PLAIN[name], name, Guarded(data, limit), at, end, room)
    return got


def _run(reader: Callable[..., Any], name: str, buf: Any, at: int, end: int, room: int) -> Any:
    if name == "read_price":
        return reader(buf, at, end, TICK)
    if name == "read_levels":
        ticks, qtys = np.zeros(room, np.int64), np.zeros(room)
        n, behind = reader(buf, at, end, TICK, ticks, qtys, 0)
        assert not ticks[n:].any()
        assert not qtys[n:].any()
        return list(zip(ticks[:n].tolist(), qtys[:n].tolist(), strict=True)), behind
    return reader(buf, at, end)


def behind(answer: Any) -> int:
    """The offset in an answer: its last part, or all of it."""
    return answer[-1] if isinstance(answer, tuple) else answer


def quoted(value: str) -> bytes:
    return f'"{value}"'.encode()


def word(name: str) -> int:
    return int.from_bytes(name.encode()[:8], "big")


VALID = [
    ("read_word", b'"e"', (word("e"), 3)),
    ("read_word", b'""', (0, 2)),
    ("read_word", b'"depthUpdate"', (word("depthUpd"), 13)),
    ("read_word", b'"lastUpda"', (word("lastUpda"), 10)),
    ("read_integer", b"0", (0, 1)),
    ("read_integer", b"5123107832006", (5123107832006, 13)),
    ("read_integer", b"%d" % INTEGER_READ_MAX, (INTEGER_READ_MAX, 19)),
    ("read_decimal", b'"61800.20"', (6180020, 2, 10)),
    ("read_decimal", b'"0"', (0, 0, 3)),
    ("read_decimal", b'"007.50"', (750, 2, 8)),
    ("read_decimal", b'"0.%s1"' % (b"0" * 16), (1, 17, 21)),
    ("read_price", b'"61800.20"', (618002, 10)),
    ("read_price", b'"0.1"', (1, 5)),
    ("read_price", b'"7"', (70, 3)),
    ("read_price", b'"1.300000000000000"', (13, 19)),
    ("read_price", b'"900000000"', (9_000_000_000, 11)),
    ("read_quantity", b'"2.507"', (2.507, 7)),
    ("read_quantity", b'"0.000"', (0.0, 7)),
    ("read_quantity", b'"606"', (606.0, 5)),
    ("read_levels", b"[]", ([], 2)),
    ("read_levels", b'[["0.10","1"]]', ([(1, 1.0)], 14)),
    ("read_levels", b'[["7.2","0.003"],["7.1","0.000"]]', ([(72, 0.003), (71, 0.0)], 33)),
]


@pytest.mark.parametrize(("name", "data", "expected"), VALID)
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("rest", [b"", b",", b"}]"])
def test_valid(name: str, data: bytes, expected: tuple[Any, ...], start: int, rest: bytes) -> None:
    got = call(name, b"." * start + data + rest, at=start)
    assert got == (*expected[:-1], expected[-1] + start)


@pytest.mark.parametrize(("name", "data", "expected"), VALID)
def test_truncated_at_every_byte(name: str, data: bytes, expected: tuple[Any, ...]) -> None:
    for end in range(len(data)):
        # What stands at and behind the end would complete the value, and must not matter.
        got = call(name, data, end)
        assert got == call(name, data[:end])
        if name == "read_integer" and end > 0:
            assert got == (int(data[:end]), end)
        else:
            assert behind(got) == -1, (end, got)


NO_DECIMALS = [
    "",
    ".",
    "-",
    "-1",
    "-0",
    "+1",
    "1e400",
    "1e5",
    "1E5",
    "NaN",
    "nan",
    "Infinity",
    "-inf",
    "1.2.3",
    "1..2",
    ".5",
    "5.",
    " 1",
    "1 ",
    "1,5",
    "0x10",
    "1_000",
    "1\\u0030",
    "1" * 19,
    "0" * 19,
    "9" * 400,
    "0." + "0" * 17 + "1",
    "1." + "5" * 400,
    "/",
    ":",
    "\u0661",
]


@pytest.mark.parametrize("value", NO_DECIMALS)
@pytest.mark.parametrize("name", ["read_decimal", "read_price", "read_quantity"])
def test_no_decimals(name: str, value: str) -> None:
    got = call(name, quoted(value))
    assert behind(got) == -1
    assert not any(got[:-1])


@pytest.mark.parametrize("name", ["read_decimal", "read_price", "read_quantity"])
@pytest.mark.parametrize("data", [b"1.5", b"null", b'1.5"', b'"1.5', b"'1.5'", b"[1.5]", b'""1"'])
def test_decimals_are_quoted(name: str, data: bytes) -> None:
    assert behind(call(name, data)) == -1


@pytest.mark.parametrize("value", NO_DECIMALS)
def test_no_decimal_within_levels(value: str) -> None:
    for level in (b'["7.2",%s]', b'[%s,"0.003"]'):
        bad = level % quoted(value)
        assert call("read_levels", b"[%s]" % bad) == ([], -1)
        assert call("read_levels", b'[["7.3","1"],%s]' % bad) == ([(73, 1.0)], -1)


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0.0",
        "0.000",
        "0.0000000000000000",
        "0.05",
        "61800.25",
        "0.01",
        "0.10000000001",
        "0.1000000000000001",
        "900000000.1",
        "922337203.7",
        "922337203.685477581",
        "99999999999999999",
        "999999999999999999",
        "12345678901.1234567",
    ],
)
def test_prices_that_are_none(value: str) -> None:
    """Zero, off the tick, or beyond what a position in units of 1e-10 can hold."""
    assert call("read_price", quoted(value)) == (0, -1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", -1),
        (b"-1", -1),
        (b"+1", -1),
        (b'"1"', -1),
        (b"NaN", -1),
        (b"null", -1),
        (b".5", -1),
        (b"%d" % 2**63, -1),
        (b"%d" % (2**63 + 1), -1),
        (b"%d" % 2**64, -1),
        (b"%d" % (2**64 + 5), -1),
        (b"1" * 20, -1),
        (b"9" * 400, -1),
        (b"1e400", 1),
        (b"1.5", 1),
    ],
)
def test_integers(data: bytes, expected: int) -> None:
    got = call("read_integer", data)
    assert got == (0 if expected < 0 else 1, expected)


@given(st.integers(0, 2**70))
def test_an_integer_is_itself_or_refused(value: int) -> None:
    data = b"%d" % value
    expected = (value, len(data)) if value <= INTEGER_READ_MAX else (0, -1)
    assert call("read_integer", data + b",") == expected


@pytest.mark.parametrize(
    "data",
    [b'"', b'"abc', b'"a\\"b"', b'"a\\u0041"', b'"a\nb"', b'"a\x00b"', b'"%s\\n"' % (b"a" * 20)],
)
def test_no_words(data: bytes) -> None:
    assert call("read_word", data) == (0, -1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"{}",
        b"[,]",
        b"[[]]",
        b'["7.2","1"]',
        b'[["7.2"]]',
        b'[["7.2","1",]]',
        b'[["7.2","1","2"]]',
        b'[["7.2""1"]]',
        b'[ ["7.2","1"]]',
        b'[["7.2", "1"]]',
        b'[["7.2",1]]',
        b'[[7.2,"1"]]',
        b'[["7.25","1"]]',
        b'[["0","1"]]',
    ],
)
def test_no_levels(data: bytes) -> None:
    assert call("read_levels", data) == ([], -1)


@pytest.mark.parametrize("rest", [b"", b"]", b",", b",]", b"x", b'["7.1","1"]]', b',["7.1"]]'])
def test_levels_broken_behind_the_first(rest: bytes) -> None:
    data = b'[["7.2","1"]' + rest
    got = call("read_levels", data)
    assert behind(got) == (len(data) if rest == b"]" else -1)


def test_levels_stop_where_the_room_ends() -> None:
    data = b'[["7.2","1"],["7.1","2"]]'
    both = [(72, 1.0), (71, 2.0)]
    assert call("read_levels", data, room=2) == (both, len(data))
    assert call("read_levels", data, room=1) == (both[:1], -1)
    assert call("read_levels", data, room=0) == ([], -1)


def test_levels_are_appended() -> None:
    buf = b'[["7.2","1"]]\n'
    ticks, qtys = np.array([5, 0]), np.array([0.5, 0.0])
    assert text.read_levels(buf, 0, len(buf) - 1, TICK, ticks, qtys, 1) == (2, len(buf) - 1)
    assert ticks.tolist() == [5, 72]
    assert qtys.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"1,", 1),
        (b"true}", 4),
        (b'"a,b}",', 6),
        (b'"a\\"b",', 6),
        (b'"a\\\\",', 5),
        (b'{"a":[1,{"b":"]}"}]},', 20),
        (b"[1,2]]", 5),
        (b",", 0),
        (b"}", 0),
        (b"", -1),
        (b"1", -1),
        (b'"a', -1),
        (b'"a\\', -1),
        (b'"a\\"', -1),
        (b"[1,2", -1),
        (b'{"a":1},'[:-2], -1),
    ],
)
def test_skip_value(data: bytes, expected: int) -> None:
    assert call("skip_value", data) == expected
    if expected >= 0:
        for end in range(expected + 1):
            assert call("skip_value", data, end) == -1 or expected == 0


@pytest.mark.parametrize("moment", [1_502_942_428_322_000_000, 1_723_161_255_030_000_000])
@pytest.mark.parametrize("divisor", [1, 1_000, 1_000_000])
def test_nanoseconds(moment: int, divisor: int) -> None:
    for convert in (text.nanoseconds, PLAIN["nanoseconds"]):
        assert convert(moment // divisor) == moment


@pytest.mark.parametrize(
    "stamp", [0, 1, 8_999_999_999_999, 10**14, 9 * 10**15 - 1, 10**17, INTEGER_READ_MAX]
)
def test_nanoseconds_at_the_edges(stamp: int) -> None:
    assert text.nanoseconds(stamp) == PLAIN["nanoseconds"](stamp) < 2**63


@pytest.mark.parametrize(
    "stamp", [9_000_000_000_000, 18_500_000_000_000, 10**14 - 1, 9 * 10**15, 10**17 - 1]
)
def test_nanoseconds_beyond_an_int64_are_refused(stamp: int) -> None:
    assert text.nanoseconds(stamp) == PLAIN["nanoseconds"](stamp) == -1


@pytest.mark.parametrize("flag", [True, False])
def test_flags(flag: bool) -> None:
    data = json.dumps(flag).encode()
    assert call("read_flag", data + b"}") == (flag, len(data))
    for end in range(len(data)):
        assert behind(call("read_flag", data + b"}", end)) == -1
    for i in range(len(data)):
        changed = data[:i] + b"X" + data[i + 1 :]
        assert behind(call("read_flag", changed + b"}")) == -1


def _digits(value: str) -> int:
    whole, _, fraction = value.partition(".")
    return len(whole + fraction.rstrip("0"))


def as_decimal(value: str) -> Decimal | None:
    """What the readers take for a decimal, in other words."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) or _digits(value) > 18:
        return None
    return Decimal(value)


plausible = st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True)
nearly = st.text(alphabet='0123456789..+-eEN"\\ ', max_size=24)


@given(plausible | nearly)
def test_decimals(value: str) -> None:
    expected = as_decimal(value.split('"')[0])
    mantissa, decimals, at = call("read_decimal", quoted(value))
    if expected is None:
        assert (mantissa, decimals, at) == (0, 0, -1)
    else:
        assert Decimal(mantissa).scaleb(-decimals) == expected
        assert at == len(value.split('"')[0]) + 2


@given(plausible | st.integers(0, 10**10).map(lambda n: str(Decimal(n).scaleb(-1))), st.data())
def test_prices(value: str, data: st.DataObject) -> None:
    expected = as_decimal(value)
    refused = expected is None or expected == 0 or expected % Decimal("0.1") != 0
    refused = refused or expected > 900_000_000
    ticks, at = call("read_price", quoted(value))
    if refused:
        assert (ticks, at) == (0, -1)
    else:
        assert Decimal(ticks) / 10 == expected
        assert at == len(value) + 2


@given(st.integers(0, EXACT_MAX), st.integers(0, 17))
def test_quantities_are_correctly_rounded(mantissa: int, decimals: int) -> None:
    value = f"{Decimal(mantissa).scaleb(-decimals):f}"
    if as_decimal(value) is not None:
        assert call("read_quantity", quoted(value)) == (float(Decimal(value)), len(value) + 2)


@pytest.mark.parametrize("value", ["97210875033.24769", "99715578641.15669", "95937206.62654365"])
def test_long_quantities_are_off_by_one_unit_at_most(value: str) -> None:
    assert abs(call("read_quantity", quoted(value))[0] - float(value)) <= np.spacing(float(value))


@given(st.sampled_from(READERS[:-1]), st.binary(max_size=40) | nearly.map(str.encode), st.data())
def test_any_bytes_to_any_end(name: str, data: bytes, draw: st.DataObject) -> None:
    """No exception, nothing read at or behind the end, the same from either form."""
    end = draw.draw(st.integers(0, len(data)))
    at = draw.draw(st.integers(0, end))
    offset = behind(call(name, data, end, at))
    assert offset == -1 or at <= offset <= end


@given(st.data())
def test_changed_levels(draw: st.DataObject) -> None:
    """One changed byte gives levels of the text that stands there, or a refusal."""
    data = bytearray(b'[["61800.20","2.507"],["61800.10","0.000"]]')
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    levels, at = call("read_levels", bytes(data), draw.draw(st.integers(0, len(data))))
    assert at == -1 or bytes(data[:at]).count(b"[") - 1 == len(levels)
