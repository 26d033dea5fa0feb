import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bot.journal import segments
from bot.journal.capture import JournalError, chunks, zstd
from bot.journal.segments import SegmentWriter, begins_at_start, read_segments, retire


def line(number: int, size: int = 0) -> bytes:
    return b'%d {"u":%d,"x":"%s"}\n' % (1723161255030314667 + number, number, b"x" * size)


def write(folder: Path, frames: list[bytes], segment_bytes: int = 2**28) -> None:
    with closing(SegmentWriter(folder, segment_bytes)) as writer:
        for frame in frames:
            writer.append(frame)
            writer.flush()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def until_error(stream: Iterator[bytes]) -> tuple[list[bytes], str]:
    """What `stream` yields, and the JournalError that ends it ("" for none)."""
    got: list[bytes] = []
    try:
        for item in stream:
            got.append(item)
    except JournalError as error:
        return got, str(error)
    return got, ""


def test_round_trip_and_a_segment_is_a_capture(tmp_path: Path) -> None:
    frames = [line(1) + line(2), line(3), b"".join(map(line, range(4, 400)))]
    write(tmp_path, frames)
    assert names(tmp_path) == ["market-000001.zst"]
    assert list(read_segments(tmp_path)) == frames
    assert b"".join(chunks([tmp_path / "market-000001.zst"])) == b"".join(frames)


def test_nothing_written_makes_no_file(tmp_path: Path) -> None:
    with closing(SegmentWriter(tmp_path)) as writer:
        writer.append(b"")
        writer.flush()
    assert names(tmp_path) == []
    assert list(read_segments(tmp_path)) == []


def test_memoryviews_are_copied(tmp_path: Path) -> None:
    text = bytearray(line(1))
    with closing(SegmentWriter(tmp_path)) as writer:
        writer.append(memoryview(text))
        text[:] = b"\0" * len(text)
    assert list(read_segments(tmp_path)) == [line(1)]


def test_frames_end_by_size_without_a_flush(tmp_path: Path) -> None:
    rows = [line(i, 60_000) for i in range(200)]
    with closing(SegmentWriter(tmp_path)) as writer:
        for row in rows:
            writer.append(row)
        assert re.fullmatch(
            r"SegmentWriter\(folder='.*', segments=\d, buffered_bytes=\d+, pending_frames=\d, "
            r"failed=False, closed=False\)",
            repr(writer),
        )
    frames = list(read_segments(tmp_path))
    assert b"".join(frames) == b"".join(rows)
    assert {len(frame) // 2**20 for frame in frames[:-1]} == {1}


def test_rotation_keeps_segments_under_their_size(tmp_path: Path) -> None:
    frames = [line(i, 1000) for i in range(10)]
    write(tmp_path, frames, segment_bytes=3200)
    assert names(tmp_path) == [f"market-00000{i}.zst" for i in (1, 2, 3, 4)]
    assert list(read_segments(tmp_path)) == frames
    assert b"".join(chunks([tmp_path / name for name in names(tmp_path)])) == b"".join(frames)


def test_a_frame_above_the_segment_size_has_its_own_segment(tmp_path: Path) -> None:
    frames = [line(0), line(1, 5000), line(2)]
    write(tmp_path, frames, segment_bytes=1000)
    assert len(names(tmp_path)) == 3
    assert list(read_segments(tmp_path)) == frames


def test_flush_hands_everything_to_the_system(tmp_path: Path) -> None:
    with closing(SegmentWriter(tmp_path)) as writer:
        for i in range(5):
            writer.append(line(i))
            writer.flush()
            assert b"".join(read_segments(tmp_path)) == b"".join(map(line, range(i + 1)))
        writer.append(line(5))
    assert b"".join(read_segments(tmp_path)) == b"".join(map(line, range(6)))


def test_truncation_at_every_byte_leaves_whole_frames(tmp_path: Path) -> None:
    frames = [line(i) + line(100 + i, i * 9) for i in range(8)]
    write(tmp_path, frames)
    path = tmp_path / "market-000001.zst"
    whole = path.read_bytes()
    seen = []
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        got = list(read_segments(tmp_path))
        assert got == frames[: len(got)]
        seen.append(len(got))
    assert seen == sorted(seen)
    assert set(seen) == set(range(8))


def test_a_flipped_byte_never_gives_wrong_lines(tmp_path: Path) -> None:
    frames = [line(i) + line(100 + i, i * 9) for i in range(5)]
    write(tmp_path, frames)
    path = tmp_path / "market-000001.zst"
    whole = path.read_bytes()
    ends = [0]
    while ends[-1] < len(whole):
        ends.append(ends[-1] + zstd.get_frame_size(whole[ends[-1] :]))
    for at in range(len(whole)):
        for flip in (0x01, 0x10, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            path.write_bytes(damaged)
            got, error = until_error(read_segments(tmp_path))
            # Frame and offset are named; only damage of the last frame may look like a tear.
            number = max(i for i in range(5) if ends[i] <= at)
            if (at, flip) == (ends[number] + 4, 0x10):
                assert got == frames, "RFC 8878 3.1.1.1.1.3: this bit means nothing"
                continue
            assert got == frames[:number], (at, flip)
            assert f"{path} is damaged at byte {ends[number]}: " in error or number == 4
            if number == 4 and not error:
                assert at < ends[4] + 20, "only the frame's lengths can make it look torn"


def test_a_damaged_length_does_not_hide_the_frames_behind_it(tmp_path: Path) -> None:
    frames = [line(0, 200_000), line(1), line(2)]
    write(tmp_path, frames)
    path = tmp_path / "market-000001.zst"
    whole = path.read_bytes()
    for at in range(20):  # the frame's header and its first block's
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            got, error = until_error(read_segments(tmp_path))
            if got:  # some bits change nothing that is decoded
                assert got == frames, (at, bit)
            else:
                assert "is damaged at byte 0: " in error, (at, bit)


def test_a_tear_before_the_last_segment_is_damage(tmp_path: Path) -> None:
    frames = [line(i, 1000) for i in range(4)]
    write(tmp_path, frames, segment_bytes=2100)
    first = tmp_path / "market-000001.zst"
    first.write_bytes(first.read_bytes()[:-1])
    got, error = until_error(read_segments(tmp_path))
    assert got == frames[:1]
    assert re.search(r"market-000001\.zst is damaged at byte \d+: ", error)


def test_an_empty_last_segment_is_a_crash(tmp_path: Path) -> None:
    write(tmp_path, [line(1)])
    (tmp_path / "market-000002.zst").touch()
    assert list(read_segments(tmp_path)) == [line(1)]


def test_frames_of_another_make_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "market-000001.zst"
    path.write_bytes(zstd.compress(line(1)))
    assert until_error(read_segments(tmp_path))[1].endswith("byte 0: the frame has no checksum")
    checked = {zstd.CompressionParameter.checksum_flag: 1}
    path.write_bytes(zstd.compress(b"1 {}", options=checked))
    assert until_error(read_segments(tmp_path))[1].endswith("byte 0: it holds no whole lines")


def test_retention_may_drop_the_oldest_but_nothing_between(tmp_path: Path) -> None:
    frames = [line(i, 1000) for i in range(4)]
    write(tmp_path, frames, segment_bytes=1100)
    (tmp_path / "market-000001.zst").unlink()
    assert list(read_segments(tmp_path)) == frames[1:]
    (tmp_path / "market-000003.zst").unlink()
    with pytest.raises(JournalError, match=r"lacks market-000003\.zst"):
        list(read_segments(tmp_path))


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="is no folder of segments"):
        SegmentWriter(tmp_path / "absent")
    with pytest.raises(JournalError, match="is no folder of segments"):
        list(read_segments(tmp_path / "absent"))
    write(tmp_path, [line(1)])
    with pytest.raises(JournalError, match="already holds segments"):
        SegmentWriter(tmp_path)


def broken(folder: Path) -> SegmentWriter:
    """A writer whose background thread cannot create a file."""
    folder.mkdir()
    writer = SegmentWriter(folder)
    folder.rmdir()
    return writer


def test_an_error_of_the_thread_is_raised_by_flush_and_for_ever(tmp_path: Path) -> None:
    writer = broken(tmp_path / "gone")
    writer.append(line(1))
    words = "market frames cannot be written to .*gone: .*No such file"
    with pytest.raises(JournalError, match=words) as caught:
        writer.flush()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(JournalError, match=words):
        writer.append(line(2))
    with pytest.raises(JournalError, match=words):
        writer.close()
    assert "failed=True, closed=True" in repr(writer)
    writer.close()


def test_an_error_of_the_thread_is_raised_by_close(tmp_path: Path) -> None:
    writer = broken(tmp_path / "gone")
    writer.append(line(1))
    with pytest.raises(JournalError, match="cannot be written"):
        writer.close()


def test_an_error_of_the_thread_is_raised_by_append_within_the_queue(tmp_path: Path) -> None:
    writer = broken(tmp_path / "gone")
    row = line(1, segments.FRAME_BYTES)

    def append_more_than_fits() -> None:
        for _ in range(segments.PENDING_FRAMES_MAX + 1):
            writer.append(row)

    with pytest.raises(JournalError, match="cannot be written"):
        append_more_than_fits()
    with pytest.raises(JournalError, match="cannot be written"):
        writer.close()


def test_nothing_is_written_behind_a_failed_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate = SegmentWriter._rotate
    calls = []

    def fail_once(writer: SegmentWriter) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        rotate(writer)

    monkeypatch.setattr(SegmentWriter, "_rotate", fail_once)
    monkeypatch.setattr(segments, "FRAME_BYTES", 1)  # every line is a frame of its own
    writer = SegmentWriter(tmp_path, segment_bytes=100)

    def write_six() -> None:
        for i in range(6):
            writer.append(line(i, 100))
        writer.flush()

    with pytest.raises(JournalError, match="No space left"):
        write_six()
    with pytest.raises(JournalError, match="No space left"):
        writer.close()
    assert list(read_segments(tmp_path)) == [line(0, 100)]
    assert len(calls) == 2


class FullDisk:
    """A file on a disk that has room for 20 bytes more."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._room = 20

    def write(self, data: memoryview) -> int:
        if not self._room:
            raise OSError(28, "No space left on device")
        taken = data[: self._room]
        self._room -= len(taken)
        return int(self._file.write(taken))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk_tears_no_frame(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append(line(1))
    writer.flush()
    writer._file = FullDisk(writer._file)
    writer.append(line(2))
    with pytest.raises(JournalError, match="No space left"):
        writer.flush()
    with pytest.raises(JournalError, match="No space left"):
        writer.close()
    assert b"".join(chunks([tmp_path / "market-000001.zst"])) == line(1)


def test_writers_of_different_stems_share_a_folder(tmp_path: Path) -> None:
    stems = ("a.b", "axb", "a.b-000001")
    writers = [SegmentWriter(tmp_path, 1, stem=stem) for stem in stems]
    for i in range(2):
        for number, writer in enumerate(writers):
            writer.append(line(10 * number + i))
            writer.flush()
    for writer in writers:
        writer.close()
    assert names(tmp_path) == sorted(f"{stem}-00000{i}.zst" for stem in stems for i in (1, 2))
    for number, stem in enumerate(stems):
        assert list(read_segments(tmp_path, stem)) == [line(10 * number), line(10 * number + 1)]
    with pytest.raises(JournalError, match="already holds segments"):
        SegmentWriter(tmp_path, stem="axb")
    SegmentWriter(tmp_path).close()


def test_lines_must_be_whole(tmp_path: Path) -> None:
    with closing(SegmentWriter(tmp_path)) as writer, pytest.raises(AssertionError):
        writer.append(b"1 {}")


def test_what_was_passed_on_can_be_read_before_the_end(tmp_path: Path) -> None:
    with closing(SegmentWriter(tmp_path)) as writer:
        writer.pass_on()
        writer.append(line(1))
        writer.pass_on()
        writer.append(line(2))
        writer._thread.submit(lambda: None).result()  # behind the frame
        assert list(read_segments(tmp_path)) == [line(1)]
    assert list(read_segments(tmp_path)) == [line(1), line(2)]


def test_pass_on_raises_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    writer = SegmentWriter(tmp_path)
    monkeypatch.setattr(SegmentWriter, "_write", full)
    writer.append(line(1))
    writer.pass_on()
    writer._thread.submit(lambda: None).result()
    with pytest.raises(JournalError, match="no space left"):
        writer.pass_on()
    with pytest.raises(JournalError):
        writer.close()


def aged(folder: Path, *seconds: int) -> list[Path]:
    """Segments last written so many seconds after the epoch."""
    write(folder, [line(i, 100) for i in range(len(seconds))], segment_bytes=100)
    paths = sorted(folder.iterdir())
    for path, second in zip(paths, seconds, strict=True):
        os.utime(path, (second, second))
    return paths


@pytest.mark.parametrize(
    ("written", "gone"),
    [
        ((10, 20, 21), 2),
        ((10, 11, 12), 2),  # the newest always stays
        ((10, 40, 11, 50), 1),  # a clock that went back makes no hole
        ((40, 10, 11, 12), 0),
    ],
)
def test_old_segments_are_retired(tmp_path: Path, written: tuple[int, ...], gone: int) -> None:
    paths = aged(tmp_path, *written)
    assert begins_at_start(tmp_path)
    assert retire(tmp_path, 30 * 10**9) == paths[:gone]
    assert sorted(tmp_path.iterdir()) == paths[gone:]
    assert begins_at_start(tmp_path) == (gone == 0)
    kept = b"".join(line(i, 100) for i in range(gone, len(written)))
    assert b"".join(read_segments(tmp_path)) == kept


def test_a_segment_of_the_very_moment_stays(tmp_path: Path) -> None:
    paths = aged(tmp_path, 30, 40)
    assert retire(tmp_path, 30 * 10**9) == []
    assert retire(tmp_path, 30 * 10**9 + 1) == paths[:1]


def test_an_empty_folder_has_nothing_to_retire(tmp_path: Path) -> None:
    assert retire(tmp_path, 1) == []
    assert begins_at_start(tmp_path)


def test_what_cannot_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(tmp_path, 10, 20)

    def refuses(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuses)
    with pytest.raises(JournalError, match=r"market-000001.zst cannot be deleted: Permission"):
        retire(tmp_path, 30 * 10**9)
