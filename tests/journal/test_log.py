import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import Cancel, Decision, Place, Rearm, Trip
from bot.domain.events import Event, Filled, OrderOpened
from bot.domain.instrument import Fees, Instrument
from bot.domain.params import (
    DiffParams,
    EngineParams,
    GammaParams,
    LadderParams,
    Params,
    QuoteParams,
    RiskParams,
    VolatilityParams,
)
from bot.domain.units import Side
from bot.journal import log
from bot.journal.capture import JournalError
from bot.journal.log import (
    Closed,
    Decided,
    DecisionDigest,
    Header,
    Learned,
    LogWriter,
    Record,
    read_log,
)

HEADER = Header(
    bot_version="0.1.0",
    mode="replay",
    started_at=1723161255030314667,
    seed=7,
    config_digest="ab" * 32,
    instrument=Instrument(
        venue="binance-spot",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=Decimal("0.010"),
        lot=Decimal("1E-5"),
        min_notional=Decimal("5.00"),
    ),
    fees=Fees(maker=Decimal("-0.00005"), taker=Decimal("0.0004")),
    params=Params(
        quote=QuoteParams(),
        ladder=LadderParams(sizes_units=(1.0, 2.0)),
        volatility=VolatilityParams(),
        gamma=GammaParams(),
        diff=DiffParams(),
        engine=EngineParams(),
        risk=RiskParams(loss_budget=100.0, max_position_lots=10, max_order_lots=2),
    ),
    prefix="mm",
)
RECORDS: list[Record] = [
    HEADER,
    Decided(1, 10, 99, []),
    Learned(2, OrderOpened(11, "a1")),
    Decided(2, 12, 98, [Place("a2", Side.SELL, 587102, 3, 0), Cancel("a1")]),
    Learned(3, Filled(13, "a2", "t1", Side.BUY, 587102, 1, True)),
    Decided(3, 14, 97, [Trip("halt", "loss_1h", {"loss": 1.5, "limit": 1.0}), Rearm("x", 0.5)]),
    Closed(4, 15, "end of input"),
]


def write(path: Path, records: list[Record]) -> bytes:
    path.unlink(missing_ok=True)
    with closing(LogWriter(path)) as writer:
        for record in records:
            writer.append(record)
    return path.read_bytes()


def ends_of(data: bytes) -> list[int]:
    ends = [0]
    while ends[-1] < len(data):
        ends.append(ends[-1] + 8 + int.from_bytes(data[ends[-1] : ends[-1] + 4], "little"))
    return ends


def until_error(stream: Iterator[Record]) -> tuple[list[Record], str]:
    """What `stream` yields, and the JournalError that ends it ("" for none)."""
    got: list[Record] = []
    try:
        for item in stream:
            got.append(item)
    except JournalError as error:
        return got, str(error)
    return got, ""


def framed(payload: bytes) -> bytes:
    return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload


def value_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind is int:  # what the journal's integers may be: 64 bits
        return st.integers(-(2**63), 2**63 - 1)
    if kind is float:
        return st.floats(allow_nan=False)
    if kind == dict[str, float]:
        return st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=4)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return struct_of(kind)
    if kind is Decimal:
        return st.decimals(allow_nan=False, allow_infinity=False, places=8)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind == Decimal | None:
        return st.none() | value_of(Decimal)
    assert kind in (str, bool), f"{kind} is new: say here what values it has"
    return st.text() if kind is str else st.booleans()


def struct_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    fields = msgspec.structs.fields(kind)
    return st.builds(kind, **{field.name: value_of(field.type) for field in fields})


def every(union: Any) -> st.SearchStrategy[Any]:
    return st.one_of([struct_of(kind) for kind in get_args(union)])


BODIES = st.lists(
    st.one_of(
        st.builds(Learned, value_of(int), every(Event)),
        st.builds(Decided, value_of(int), value_of(int), value_of(int), st.lists(every(Decision))),
        struct_of(Closed),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", [*get_args(Event), *get_args(Decision)])
@given(data=st.data())
def test_every_event_and_decision_survives(
    tmp_path_factory: pytest.TempPathFactory, kind: type[Any], data: st.DataObject
) -> None:
    item = data.draw(struct_of(kind))
    record: Record = Learned(1, item) if kind in get_args(Event) else Decided(1, 2, 3, [item, item])
    path = tmp_path_factory.getbasetemp() / f"one-{kind.__name__}.log"
    write(path, [HEADER, record])
    assert list(read_log(path)) == [HEADER, record]


@given(body=BODIES)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, body: list[Record]) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.log"
    first = write(path, [HEADER, *body])
    assert list(read_log(path)) == [HEADER, *body]
    assert write(path, list(read_log(path))) == first


def test_decimals_keep_their_digits(tmp_path: Path) -> None:
    write(tmp_path / "d.log", [HEADER])
    (header,) = read_log(tmp_path / "d.log")
    assert isinstance(header, Header)
    # Decimal("0.01") == Decimal("0.010"), so equality alone would not show lost digits.
    assert str(header.instrument.tick) == "0.010"
    assert str(header.fees.maker) == "-0.00005"
    assert header == HEADER


def test_truncation_at_every_byte_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    data = write(path, RECORDS)
    ends = ends_of(data)
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends) - 1
        assert list(read_log(path)) == RECORDS[:whole], cut


def test_every_flipped_byte_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    data = write(path, RECORDS)
    ends = ends_of(data)
    for at in range(len(data)):
        number = sum(end <= at for end in ends) - 1
        for flip in (0x01, 0x08, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            path.write_bytes(damaged)
            got, error = until_error(read_log(path))
            assert got == RECORDS[:number], (at, flip)
            assert error.startswith(f"{path} is damaged at byte {ends[number]}: "), (at, flip)


def test_a_lost_or_doubled_piece_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    data = write(path, RECORDS)
    ends = ends_of(data)
    path.write_bytes(data[: ends[3] + 9] + data[ends[3] + 10 :])
    got, error = until_error(read_log(path))
    assert got == RECORDS[:3]
    assert f"damaged at byte {ends[3]}" in error


def test_a_crash_before_the_header_is_an_empty_log(tmp_path: Path) -> None:
    (tmp_path / "d.log").touch()
    assert list(read_log(tmp_path / "d.log")) == []


def test_the_version_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    header = msgspec.structs.replace(HEADER, version=3)
    write(path, [header, Learned(0, OrderOpened(1, "mm-1"))])
    assert list(read_log(path)) == [header, Learned(0, OrderOpened(1, "mm-1"))]


def test_another_version_is_refused_even_when_its_header_differs(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    write(path, [msgspec.structs.replace(HEADER, version=1)])
    words = "d.log is a log of version 1, this program reads versions 3 and 4$"
    with pytest.raises(JournalError, match=words):
        list(read_log(path))
    path.write_bytes(framed(msgspec.msgpack.encode({"type": "Header", "version": 1, "else": 1})))
    with pytest.raises(JournalError, match=words):
        list(read_log(path))


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    path.write_bytes(b"1723161255030314667 {}\n")
    with pytest.raises(JournalError, match="is damaged at byte 0: no record is"):
        list(read_log(path))
    path.write_bytes(framed(msgspec.msgpack.encode(RECORDS[1])))
    with pytest.raises(JournalError, match="is no log of decisions: it starts without a header"):
        list(read_log(path))
    with pytest.raises(JournalError, match="cannot be read: No such file"):
        list(read_log(tmp_path / "absent"))
    with pytest.raises(JournalError, match="cannot be read: Is a directory"):
        list(read_log(tmp_path))


@pytest.mark.parametrize("payload", [b"\xc1", msgspec.msgpack.encode({"type": "New"}), b"\xa1\xff"])
def test_a_record_that_no_one_knows_is_named(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "d.log"
    data = write(path, [HEADER])
    path.write_bytes(data + framed(payload))
    got, error = until_error(read_log(path))
    assert got == [HEADER]
    assert f"damaged at byte {len(data)}: " in error


def test_records_wait_for_flush(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    with closing(LogWriter(path)) as writer:
        for record in RECORDS:
            writer.append(record)
        assert list(read_log(path)) == []
        writer.flush()
        assert list(read_log(path)) == RECORDS
        assert repr(writer) == f"LogWriter(path={str(path)!r}, records=7, closed=False)"
    writer.close()
    assert "closed=True" in repr(writer)
    assert [found.name for found in tmp_path.iterdir()] == ["d.log"]


def test_a_log_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "d.log", RECORDS)
    with pytest.raises(JournalError, match="cannot be created: File exists"):
        LogWriter(tmp_path / "d.log")
    assert list(read_log(tmp_path / "d.log")) == RECORDS


def test_the_first_record_is_the_header(tmp_path: Path) -> None:
    with closing(LogWriter(tmp_path / "d.log")) as writer, pytest.raises(AssertionError):
        writer.append(RECORDS[1])


def test_a_record_over_the_limit_is_refused_whole(tmp_path: Path) -> None:
    path = tmp_path / "d.log"
    with closing(LogWriter(path)) as writer:
        writer.append(HEADER)
        with pytest.raises(JournalError, match="over the limit"):
            writer.append(Closed(1, 2, "x" * log.RECORD_BYTES_MAX))
    assert list(read_log(path)) == [HEADER]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_journal_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.log"

    def full(_: Path, mode: str, buffering: int) -> Any:
        return open("/dev/full", "wb", buffering=buffering)

    monkeypatch.setattr(Path, "open", full)
    writer = LogWriter(path)
    writer.append(HEADER)
    with pytest.raises(JournalError, match="cannot be written: No space left on device"):
        writer.flush()
    with pytest.raises(JournalError, match="cannot be written"):
        writer.close()


def test_the_digest_is_of_times_and_decisions() -> None:
    def digest(*records: Decided) -> str:
        running = DecisionDigest()
        for record in records:
            running.add(record.now, record.decisions)
        assert repr(running) == f"DecisionDigest('{running.hexdigest}')"
        return running.hexdigest

    decided = [record for record in RECORDS if isinstance(record, Decided)]
    assert digest(*decided) == digest(*decided)
    assert digest(*decided[:-1]) != digest(*decided)
    assert digest(Decided(1, 11, 99, [])) != digest(Decided(1, 10, 99, []))
    assert digest(Decided(1, 10, 99, [])) == digest(Decided(2, 10, 98, []))


def test_equal_decisions_have_equal_bytes(tmp_path: Path) -> None:
    one, other = {"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}
    logs = [
        write(tmp_path / f"{i}.log", [HEADER, Decided(1, 2, 3, [Trip("pause", "x", evidence)])])
        for i, evidence in enumerate((one, other))
    ]
    assert logs[0] == logs[1]
