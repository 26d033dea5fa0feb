"""Market frames as rotated compressed segments; every segment is a capture.

A segment is a row of independent zstd frames with checksums, each holding whole lines, so
that a file cut at any byte is readable up to its last whole frame. Compression runs on
one background thread (zstd releases the interpreter lock).
"""

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Final

from bot.journal.capture import JournalError, zstd

STEM: Final = "market"
SEGMENT_BYTES: Final = 256 * 2**20  # uncompressed
FRAME_BYTES: Final = 2**20  # uncompressed
PENDING_FRAMES_MAX: Final = 8
# Measured on 27.8 MB of real futures frames: level 1 packs 7.9 : 1 at 610 MB/s on one
# core, level 3 packs worse (7.3 : 1) and slower (480 MB/s).
LEVEL: Final = 1

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_CHECKSUM_FLAG: Final = 0x04  # in the byte after the magic (RFC 8878 3.1.1.1.1)


class SegmentWriter:
    """Appends whole lines to `market-000001.zst`, `market-000002.zst`, … in `folder`.

    Another `stem` replaces `market`; writers of different stems may share a folder. A segment
    is closed before it would exceed `segment_bytes` of lines (one frame larger than that makes
    a segment of its own). An error of the background thread is raised as `JournalError` by the
    next call and by every later one; nothing is written after it.
    """

    def __init__(
        self, folder: Path, segment_bytes: int = SEGMENT_BYTES, *, stem: str = STEM
    ) -> None:
        """Raise `JournalError` when `folder` is missing or already holds segments."""
        assert segment_bytes > 0
        if _segments(folder, stem):
            # Behind a torn tail new segments would turn a crash into a damaged journal.
            raise JournalError(f"{folder} already holds segments, a run writes a new folder")
        self.folder = folder
        self.stem = stem
        self._segment_bytes = segment_bytes
        self._buffer = bytearray()
        self._pending: deque[Future[None]] = deque()
        self._failure: BaseException | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments")
        # From here on only the background thread touches these, until it has ended.
        self._file: FileIO | None = None
        self._segments = 0
        self._segment_size = 0
        self._whole = True  # the file ends with a whole frame
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        self._compressor = zstd.ZstdCompressor(options=options)

    def __repr__(self) -> str:
        return (
            f"SegmentWriter(folder={str(self.folder)!r}, segments={self._segments}, "
            f"buffered_bytes={len(self._buffer)}, pending_frames={len(self._pending)}, "
            f"failed={self._failure is not None}, closed={self._closed})"
        )

    def append(self, lines: bytes | memoryview) -> None:
        """Take whole lines (the last byte is a newline); blocks while the queue is full."""
        assert not self._closed
        self._settle(PENDING_FRAMES_MAX)
        if not lines:
            return
        assert lines[-1] == 10
        self._buffer += lines
        if len(self._buffer) >= FRAME_BYTES:
            self._submit()

    def pass_on(self) -> None:
        """End the frame and let the thread write it; blocks only while the queue is full.

        Once it is written, a crash loses nothing from before this call.
        """
        assert not self._closed
        self._submit()

    def flush(self) -> None:
        """End the frame; returns when the system has every line."""
        assert not self._closed
        self._submit()
        self._settle(0)

    def close(self) -> None:
        """Flush, end the thread and close the file; does nothing the second time."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            self._thread.shutdown(cancel_futures=True)
            if self._file is not None:
                self._file.close()

    def _submit(self) -> None:
        self._settle(PENDING_FRAMES_MAX - 1)
        if self._buffer:
            lines, self._buffer = self._buffer, bytearray()
            self._pending.append(self._thread.submit(self._write, lines))

    def _settle(self, pending_max: int) -> None:
        """Wait until at most `pending_max` frames are pending; raise what went wrong."""
        while self._pending and (len(self._pending) > pending_max or self._pending[0].done()):
            # Popped only after the wait: an interrupt in it must not lose the answer.
            self._failure = self._failure or self._pending[0].exception()
            self._pending.popleft()
        if self._failure is not None:
            raise JournalError(
                f"market frames cannot be written to {self.folder}: {self._failure}"
            ) from self._failure

    def _write(self, lines: bytearray) -> None:
        if not self._whole:
            return  # the frame before this one failed, and is reported
        self._whole = False
        frame = self._compressor.compress(lines, zstd.ZstdCompressor.FLUSH_FRAME)
        full = self._segment_size + len(lines) > self._segment_bytes
        if self._file is None or full:
            self._rotate()
        assert self._file is not None
        whole_bytes = self._file.tell()
        try:
            rest = memoryview(frame)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(whole_bytes)  # a full disk need not tear the file
            raise
        self._segment_size += len(lines)
        self._whole = True

    def _rotate(self) -> None:
        if self._file is not None:
            self._file.close()
        path = self.folder / _name(self.stem, self._segments + 1)
        self._file = path.open("xb", buffering=0)
        self._segments += 1
        self._segment_size = 0


def retire(folder: Path, before_ns: int) -> list[Path]:
    """Delete the oldest segments, as far as they were last written before `before_ns`.

    The newest always stays, and no gap is left between two. Returns the deleted ones; raises
    `JournalError` when one cannot be deleted.
    """
    gone = []
    for path in list(_segments(folder, STEM).values())[:-1]:
        try:
            if path.stat().st_mtime_ns >= before_ns:
                break
            path.unlink()
            gone.append(path)
        except OSError as error:
            raise JournalError(f"{path} cannot be deleted: {error.strerror}") from error
    return gone


def begins_at_start(folder: Path) -> bool:
    """Whether no segment was retired."""
    return next(iter(_segments(folder, STEM)), 1) == 1


def read_segments(folder: Path, stem: str = STEM) -> Iterator[bytes]:
    """Yield the lines of a folder's segments in order, a frame (whole lines) at a time.

    A last segment that ends inside a frame ends the stream quietly: that is a crash.
    Old segments may be gone, but not one between two others. Raises `JournalError` naming
    the file and the byte offset of a damaged frame, after yielding the frames before it.
    """
    paths = _segments(folder, stem)
    first = next(iter(paths), 1)
    for number in range(first, first + len(paths)):
        if number not in paths:
            raise JournalError(f"{folder} lacks {_name(stem, number)} between its segments")
    for number, path in paths.items():
        yield from _frames(path, last=number == first + len(paths) - 1)


def _name(stem: str, number: int) -> str:
    return f"{stem}-{number:06d}.zst"


def _segments(folder: Path, stem: str) -> dict[int, Path]:
    """Segments by number, in order."""
    name = re.compile(re.escape(stem) + r"-(\d{6,})\.zst")
    try:
        found = [(name.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError as error:
        raise JournalError(f"{folder} is no folder of segments: {error.strerror}") from error
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def _frames(path: Path, last: bool) -> Iterator[bytes]:
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    offset = 0
    while offset < len(data):
        rest = data[offset:]
        try:
            size = zstd.get_frame_size(rest)
            lines = zstd.decompress(rest[:size])
        except zstd.ZstdError as error:
            if last and _is_torn(rest):
                return
            raise JournalError(f"{path} is damaged at byte {offset}: {error}") from error
        if not rest[len(_MAGIC)] & _CHECKSUM_FLAG:
            raise JournalError(f"{path} is damaged at byte {offset}: the frame has no checksum")
        if not lines.endswith(b"\n"):
            raise JournalError(f"{path} is damaged at byte {offset}: it holds no whole lines")
        yield lines
        offset += size


def _is_torn(rest: memoryview) -> bool:
    """Whether `rest` is the beginning of one frame, and not a damaged frame with others behind.

    A damaged length can make a frame look unfinished, but it cannot hide those behind it.
    """
    frame = zstd.ZstdDecompressor()
    try:
        frame.decompress(rest)
    except zstd.ZstdError:
        return False
    data = bytes(rest)
    start = data.find(_MAGIC, 1)
    while start >= 0:
        try:
            zstd.decompress(data[start : start + zstd.get_frame_size(rest[start:])])
        except zstd.ZstdError:
            start = data.find(_MAGIC, start + 1)
        else:
            return False
    return not frame.eof
