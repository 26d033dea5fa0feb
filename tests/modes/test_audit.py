"""An audit reproduces a run, and finds one changed byte."""

from pathlib import Path

import pytest

from bot.journal.capture import JournalError, chunks
from bot.journal.run import Run, open_run
from bot.journal.segments import SegmentWriter, read_segments
from bot.modes.audit import audit
from bot.modes.paperrun import PaperRun
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
    PaperRun(loaded, run).feed_all([b"".join(lines[:5_000]), b"".join(lines[5_000:])])
    return run


def rewrite(run: Run, text: bytes) -> None:
    """Put other market frames into the journal, with checksums that fit them."""
    for segment in sorted(run.journal.glob("market-*")):
        segment.unlink()
    with SegmentWriter(run.journal) as writer:
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
