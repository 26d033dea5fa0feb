"""Reading captures: received frames as lines, plain or compressed, as one stream of bytes.

A line is `<receive time since the epoch> <raw frame as received>`. What compresses a file
is told by its magic bytes, never by its name; gzip members and zstd frames may be
concatenated inside one file, and files of different kinds make one stream.
"""

import re
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

if sys.version_info >= (3, 14):
    from compression import zstd as zstd
else:
    from backports import zstd as zstd

CHUNK_BYTES: Final = 4 * 2**20
LINE_BYTES_MAX: Final = 64 * 2**20  # a REST snapshot of 5,000 levels a side is 0.3 MB
READ_BYTES: Final = 256 * 2**10

_GZIP: Final = b"\x1f\x8b"
# A zstd frame, or a skippable frame in front of one (as pzstd writes).
_ZSTD: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_GZIP_WINDOW: Final = 31  # zlib's wbits for "gzip header and trailer, largest window"
_LINE_START: Final = re.compile(rb"[0-9]+ [{\[]")
_HEAD_BYTES: Final = 40


class JournalError(Exception):
    """A file of the journal is missing, damaged or cannot be written; one sentence."""


class CaptureError(JournalError):
    """A capture cannot be read; one sentence that names the file."""


def chunks(paths: Sequence[Path], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the lines of `paths`, in order, in chunks of about `chunk_bytes`.

    Every chunk consists of whole lines, each ending with a newline; a last line without
    one gets one. A chunk never spans two files.

    A compressed file that ends inside its stream is an error, raised after its full chunks
    were yielded and naming how many whole lines were readable.

    Raises `CaptureError`: before the first chunk when any path is missing, a directory or
    empty; later when a file is torn, damaged, unreadable or no capture, or when a line is
    longer than `LINE_BYTES_MAX`.
    """
    assert 0 < chunk_bytes <= LINE_BYTES_MAX
    for path in paths:
        _refuse_unusable(path)
    for path in paths:
        try:
            with path.open("rb") as file:
                yield from _line_chunks(_Source(path, file, chunk_bytes), chunk_bytes)
        except OSError as error:
            raise CaptureError(f"{path} cannot be read: {error.strerror}") from error


def _refuse_unusable(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise CaptureError(f"{path} does not exist") from error
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise CaptureError(f"{path} is a directory, a capture is a file")
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        raise CaptureError(f"{path} is empty, a capture has at least one line")


def _line_chunks(source: "_Source", chunk_bytes: int) -> Iterator[bytes]:
    path = source.path
    held: list[bytes] = []  # not yielded yet
    held_bytes = open_bytes = lines = 0  # `open_bytes` have come since the last newline
    known = False
    try:
        for piece in source.pieces():
            first = piece.find(b"\n")
            if open_bytes + (first if first >= 0 else len(piece)) > LINE_BYTES_MAX:
                raise CaptureError(
                    f"{path}: line {lines + 1} is longer than {LINE_BYTES_MAX} bytes"
                )
            held.append(piece)
            held_bytes += len(piece)
            if not known and (first >= 0 or held_bytes >= _HEAD_BYTES):
                _refuse_foreign(path, b"".join(held))
                known = True
            if first < 0:
                open_bytes += len(piece)
                continue
            lines += piece.count(b"\n")
            end = piece.rfind(b"\n") + 1
            open_bytes = len(piece) - end
            if held_bytes >= chunk_bytes:
                held[-1] = piece[:end]
                yield b"".join(held)
                held, held_bytes = [piece[end:]], open_bytes
    except (zlib.error, zstd.ZstdError) as error:
        raise CaptureError(f"{path} is damaged after {lines} whole lines: {error}") from error
    if source.torn:
        raise CaptureError(f"{path} ends inside its compressed data, after {lines} whole lines")
    rest = b"".join(held)
    if not known:
        _refuse_foreign(path, rest)
    if rest:
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _refuse_foreign(path: Path, text: bytes) -> None:
    if not _LINE_START.match(text):
        raise CaptureError(
            f"{path} is not a capture: a line is '<receive time> {{…}}', "
            f"its first one starts with {text[:_HEAD_BYTES]!r}"
        )


class _Source:
    """The decompressed bytes of one open file; `torn` once it ended inside its stream."""

    def __init__(self, path: Path, file: BinaryIO, piece_bytes: int) -> None:
        self.path = path
        self.torn = False
        self._file = file
        self._piece_bytes = piece_bytes

    def __repr__(self) -> str:
        return f"_Source(path={str(self.path)!r}, torn={self.torn})"

    def pieces(self) -> Iterator[bytes]:
        """Yield non-empty pieces of at most about `piece_bytes`.

        Raises OSError, and `zlib.error` or `ZstdError` on damaged data.
        """
        head = self._read()
        if head.startswith(_GZIP):
            return self._gunzipped(head)
        if _ZSTD.match(head):
            return self._unzstd(head)
        return self._plain(head)

    def _read(self) -> bytes:
        return self._file.read(max(min(READ_BYTES, self._piece_bytes), _HEAD_BYTES))

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._read()

    def _gunzipped(self, data: bytes) -> Iterator[bytes]:
        while data:
            member = zlib.decompressobj(_GZIP_WINDOW)
            while not member.eof:
                data = data or self._read()
                if not data:
                    self.torn = True
                    yield from filter(None, [member.flush()])
                    return
                yield from filter(None, [member.decompress(data, self._piece_bytes)])
                data = member.unconsumed_tail
            # Zeros may pad a member (RFC 1952 leaves them to the medium, gzip skips them).
            data = member.unused_data or self._read()
            while data and not (data := data.lstrip(b"\0")):
                data = self._read()

    def _unzstd(self, data: bytes) -> Iterator[bytes]:
        while data:
            frame = zstd.ZstdDecompressor()
            while not frame.eof:
                if frame.needs_input:
                    data = data or self._read()
                    if not data:
                        self.torn = True
                        return
                yield from filter(None, [frame.decompress(data, self._piece_bytes)])
                data = b""  # the decompressor keeps what it has not used
            data = frame.unused_data or self._read()
