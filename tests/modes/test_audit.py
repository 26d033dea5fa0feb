"""An audit reproduces a run, and finds one changed byte."""

import struct
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from bot.journal.capture import JournalError, chunks
from bot.journal.run import Run, open_run
from bot.journal.segments import SegmentWriter, read_segments
from bot.modes.audit import audit
from bot.modes.enginerun import EngineRun
from bot.modes.replay import start_run
from bot.modes.settings import load

ROOT = Path(__file__).parents[2]
LINES = 12_000


@pytest.fixture(scope="module")
def lines(usdm_capture):
    return next(chunks([usdm_capture])).splitlines(keepends=True)[:LINES]


@pytest.fixture
def run(lines, tmp_path) -> Run:
    return journalled(lines, tmp_path)


def journalled(lines: list[bytes], root: Path) -> Run:
    loaded = load(ROOT / "config" / "paper-binance-usdm.yaml", env={})
    run = start_run(loaded, root, lines[0])
    EngineRun(loaded, run).feed_all([b"".join(lines[:5_000]), b"".join(lines[5_000:])])
    return run


def rewrite(run: Run, text: bytes) -> None:
    """Put other market frames into the journal, with checksums that fit them."""
    for segment in sorted(run.journal.glob("market-*")):
        segment.unlink()
    with closing(SegmentWriter(run.journal)) as writer:
        writer.append(text)


def test_a_run_comes_out_again(run):
    result = audit(run.path)
    assert result["ok"], result["difference"]
    assert result["closed"]
    assert result["frames"] == LINES
    assert result["decisions"] > 100


def test_a_run_with_a_gap_and_a_resync_comes_out_again(lines, tmp_path):
    depth = [i for i, line in enumerate(lines) if b"@depth" in line]
    cut = [line for i, line in enumerate(lines) if i != depth[300]]
    snapshot = next(line for line in lines if b"lastUpdateId" in line)
    later = cut[depth[400]].split(b" ", 1)[0] + b" " + snapshot.split(b" ", 1)[1]
    cut.insert(depth[400], later)
    result = audit(journalled(cut, tmp_path).path)
    assert result["ok"], result["difference"]


@pytest.mark.parametrize("kind", [b"@depth", b"@bookTicker", b"@trade"])
def test_one_changed_input_byte_is_found(run, kind):
    text = bytearray(b"".join(read_segments(run.journal)))
    line = next(i for i, part in enumerate(text.split(b"\n")) if kind in part and i > LINES // 2)
    start = sum(len(part) + 1 for part in text.split(b"\n")[:line])
    at = text.index(b'"p":"' if kind == b"@trade" else b'"b":', start) + 9
    while not 48 <= text[at] <= 57:
        at += 1
    text[at] = 49 if text[at] != 49 else 50
    rewrite(run, bytes(text))
    result = audit(run.path)
    assert not result["ok"]
    assert result["difference"].startswith("decision ")


def test_a_journal_without_all_its_frames_is_damaged(run):
    text = b"".join(read_segments(run.journal))
    rewrite(run, text[: text.index(b"\n", len(text) // 2) + 1])
    with pytest.raises(JournalError, match="market frames end after"):
        audit(run.path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(JournalError):
        open_run(tmp_path / "nothing")


def records_of(run: Run) -> list[bytes]:
    """The log's payloads."""
    data, found, at = run.log.read_bytes(), [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return found


def write_records(run: Run, records: list[bytes], *, chained: bool) -> None:
    """Put other records into the log, with checksums of their own or those of a chain."""
    crc, text = 0, b""
    for record in records:
        crc = crc32(record, crc if chained else 0)
        text += struct.pack("<II", len(record), crc) + record
    run.log.write_bytes(text)


def test_records_rewritten_as_they_are_are_the_same(run):
    before = run.log.read_bytes()
    write_records(run, records_of(run), chained=True)
    assert run.log.read_bytes() == before


@pytest.mark.parametrize("what", ["changed", "taken out", "put in"])
def test_one_record_with_a_checksum_of_its_own_is_noticed(run, what):
    records = records_of(run)
    data = run.log.read_bytes()
    at = len(records) // 2
    start = sum(8 + len(record) for record in records[:at])
    end = start + 8 + len(records[at])
    if what == "changed":
        other = bytearray(records[at])
        other[-1] ^= 1
        piece = struct.pack("<II", len(other), crc32(bytes(other))) + other
    else:
        piece = b"" if what == "taken out" else data[start:end] * 2
    run.log.write_bytes(data[:start] + piece + data[end:])
    with pytest.raises(JournalError, match="is damaged at byte"):
        audit(run.path)


def test_an_event_about_an_order_that_never_was_is_one_sentence(run):
    records = records_of(run)
    opened = next(i for i, record in enumerate(records) if b"OrderOpened" in record)
    records[opened] = records[opened].replace(b"mm-1", b"mm-9")
    write_records(run, records, chained=True)
    result = audit(run.path)
    assert not result["ok"]
    assert result["difference"].startswith("the run cannot have learned OrderOpened(")


def test_a_manifest_of_another_configuration_is_noticed(run):
    manifest = run.read_manifest()
    run.write_manifest({**manifest, "config_sha256": "0" * 64})
    assert audit(run.path)["difference"].startswith("manifest.json names another configuration")


def test_a_crash_may_leave_the_log_ahead_of_the_frames(run):
    records = records_of(run)
    write_records(run, records[:-1], chained=True)  # no Closed
    rewrite(run, b"".join(read_segments(run.journal))[:-200_000].rpartition(b"\n")[0] + b"\n")
    result = audit(run.path)
    assert result["ok"], result["difference"]
    assert not result["closed"]
    assert 0 < result["records_without_frames"] < len(records)
    assert 0 < result["decisions"] < len(records)
