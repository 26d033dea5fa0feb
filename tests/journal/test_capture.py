import gzip
import os
import random
import re
from pathlib import Path

import pytest

from bot.journal import capture
from bot.journal.capture import CaptureError, JournalError, chunks, zstd

CAPTURES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "captures"


def lines_of(count: int, start: int = 0) -> bytes:
    return b"".join(
        b'%d {"u":%d,"b":[["58710.20","0.%d"]]}\n' % (1723161255030314667 + i, i, i * 7919 % 1000)
        for i in range(start, start + count)
    )


def file_of(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def text_of(*paths: Path, chunk_bytes: int = capture.CHUNK_BYTES) -> bytes:
    found = list(chunks(paths, chunk_bytes))
    assert all(chunk.endswith(b"\n") for chunk in found)
    return b"".join(found)


def zstd_of(data: bytes, checksum: int = 1) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: checksum})


PLAIN = {"text": bytes, "gzip": gzip.compress, "zstd": zstd_of}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("chunk_bytes", [1, 41, 1000, 300_000, 2**22])
def test_every_kind_gives_its_lines_whatever_the_chunk(
    tmp_path: Path, kind: str, chunk_bytes: int
) -> None:
    count = 60 if chunk_bytes < 100 else 20_000
    path = file_of(tmp_path, "misleading.txt", PLAIN[kind](lines_of(count)))
    assert text_of(path, chunk_bytes=chunk_bytes) == lines_of(count)


@pytest.mark.parametrize("kind", PLAIN)
def test_chunks_have_about_the_asked_size(tmp_path: Path, kind: str) -> None:
    path = file_of(tmp_path, "c", PLAIN[kind](lines_of(20_000)))
    sizes = [len(chunk) for chunk in chunks([path], 100_000)]
    assert len(sizes) > 5
    assert all(99_900 < size < 200_100 for size in sizes[:-1])


def test_concatenated_members_and_frames_in_one_file(tmp_path: Path) -> None:
    parts = [lines_of(3), lines_of(1, 3), lines_of(500, 4)]
    # A line may even be split between members.
    cut = [parts[0][:50], parts[0][50:], *parts[1:]]
    whole = b"".join(parts)
    assert text_of(file_of(tmp_path, "g", b"".join(map(gzip.compress, cut)))) == whole
    assert text_of(file_of(tmp_path, "z", b"".join(map(zstd_of, cut)))) == whole
    padded = b"".join(gzip.compress(part) + bytes(700) for part in cut)
    assert text_of(file_of(tmp_path, "p", padded), chunk_bytes=64) == whole
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert text_of(file_of(tmp_path, "s", skippable + zstd_of(whole))) == whole


def test_files_of_all_kinds_are_one_stream(tmp_path: Path) -> None:
    paths = [
        file_of(tmp_path, "a", lines_of(5)[:-1]),
        file_of(tmp_path, "b", gzip.compress(lines_of(5, 5)[:-1])),
        file_of(tmp_path, "c", zstd_of(lines_of(5, 10)[:-1])),
        file_of(tmp_path, "d", lines_of(5, 15)),
    ]
    assert text_of(*paths) == lines_of(20)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("binance-spot-btcusdt-20240808.gz", 41_249),
        ("binance-usdm-btcusdt-20240808.gz", 93_954),
    ],
)
def test_real_captures(name: str, frames: int) -> None:
    if not (CAPTURES / name).exists():
        pytest.skip("the real captures are not here")
    assert sum(chunk.count(b"\n") for chunk in chunks([CAPTURES / name])) == frames


def test_unusable_paths_are_refused_before_the_first_chunk(tmp_path: Path) -> None:
    good = file_of(tmp_path, "good", lines_of(1))
    empty = file_of(tmp_path, "empty", b"")
    for path, words in [
        (tmp_path / "absent", "does not exist"),
        (tmp_path, "is a directory"),
        (empty, "is empty"),
        (good / "below", "cannot be read: Not a directory"),
    ]:
        with pytest.raises(CaptureError, match=f"^{re.escape(str(path))} {words}"):
            next(chunks([good, path]))


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_of(tmp_path, "c", lines_of(1))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CaptureError, match=r"c cannot be read: Permission denied$"):
        list(chunks([path]))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_permission_of_the_system(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c", lines_of(1))
    path.chmod(0)
    with pytest.raises(CaptureError, match="Permission denied"):
        list(chunks([path]))


@pytest.mark.parametrize(
    "head", [b"hello world\n", b'{"no":"time"}\n', b"\xff\xfe\x00binary" * 9, b"17 null\n", b"\n"]
)
@pytest.mark.parametrize("kind", PLAIN)
def test_foreign_files_are_shown_safely(tmp_path: Path, kind: str, head: bytes) -> None:
    path = file_of(tmp_path, "c", PLAIN[kind](head + lines_of(3)))
    with pytest.raises(CaptureError, match="is not a capture") as caught:
        list(chunks([path]))
    assert "\n" not in str(caught.value)
    assert repr((head + lines_of(3))[:40]) in str(caught.value)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_compressed_nothing_is_not_a_capture(tmp_path: Path, kind: str) -> None:
    path = file_of(tmp_path, "c", PLAIN[kind](b""))
    with pytest.raises(CaptureError, match="is not a capture"):
        list(chunks([path]))


def readable(paths: list[Path], chunk_bytes: int = 1) -> tuple[bytes, str]:
    """What `chunks` yields before it ends or is refused, and the refusal."""
    got = b""
    try:
        for chunk in chunks(paths, chunk_bytes):
            got += chunk
    except CaptureError as refusal:
        return got, str(refusal)
    return got, ""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_truncation_at_every_byte(tmp_path: Path, kind: str) -> None:
    whole = lines_of(40)
    # The second half starts in the middle of a line.
    packed = PLAIN[kind](whole[:1000]) + PLAIN[kind](whole[1000:])
    boundary = len(PLAIN[kind](whole[:1000]))
    seen = set()
    for cut in range(4, len(packed)):
        got, refusal = readable([file_of(tmp_path, "c", packed[:cut])])
        if cut == boundary:  # whole to every eye: its last line only lacks a newline
            assert (got, refusal) == (whole[:1000] + b"\n", "")
            continue
        assert whole.startswith(got)
        assert got == b"" or got.endswith(b"\n")
        assert refusal.endswith(f"after {len(got.splitlines())} whole lines")
        seen.add(got.count(b"\n"))
    assert len(seen) > 1


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_what_a_torn_file_gives_does_not_depend_on_the_chunk(tmp_path: Path, kind: str) -> None:
    packed = PLAIN[kind](b"".join(b'%d {"x":"%s"}\n' % (i, b"x" * 500) for i in range(30)))
    for cut in range(30, len(packed)):
        path = file_of(tmp_path, "c", packed[:cut])
        assert readable([path], 1)[1] == readable([path], 2**20)[1] != ""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_torn_file_ends_the_stream(tmp_path: Path, kind: str) -> None:
    noise = random.Random(1)
    whole = b"".join(
        b'%d {"n":"%s"}\n' % (i, noise.randbytes(99).hex().encode()) for i in range(9999)
    )
    packed = PLAIN[kind](whole)
    torn = file_of(tmp_path, "torn", packed[: len(packed) // 2])
    got, refusal = readable([torn, file_of(tmp_path, "next", lines_of(2))])
    assert whole.startswith(got)
    assert 0.3 < len(got) / len(whole) < 0.6
    lines = got.count(b"\n")
    assert refusal == f"{torn} ends inside its compressed data, after {lines} whole lines"


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PLAIN[kind](lines_of(200)))
    packed[-6 if kind == "gzip" else -2] ^= 1  # inside the checksum
    path = file_of(tmp_path, "c", bytes(packed))
    with pytest.raises(CaptureError, match=r"c is damaged after \d+ whole lines: "):
        list(chunks([path]))
    garbage = file_of(tmp_path, "d", PLAIN[kind](lines_of(5)) + b"garbage behind it")
    with pytest.raises(CaptureError, match="d is damaged after 5 whole lines: "):
        list(chunks([garbage]))


@pytest.mark.parametrize("kind", PLAIN)
def test_overlong_lines(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "LINE_BYTES_MAX", 10_000)
    fits = b'1 {"' + b"x" * (10_000 - 6) + b'"}'
    good = file_of(tmp_path, "good", PLAIN[kind](lines_of(2) + fits[:10_000] + b"\n" + lines_of(2)))
    assert len(text_of(good, chunk_bytes=100)) == 2 * len(lines_of(2)) + 10_001
    long = file_of(tmp_path, "long", PLAIN[kind](lines_of(2) + fits + b"y\n"))
    with pytest.raises(CaptureError, match="long: line 3 is longer than 10000 bytes"):
        list(chunks([long], 100))


def test_a_capture_error_is_a_journal_error_and_sources_have_a_repr(tmp_path: Path) -> None:
    assert issubclass(CaptureError, JournalError)
    with file_of(tmp_path, "c", b"1").open("rb") as file:
        assert repr(capture._Source(tmp_path / "c", file, 9)).endswith("c', torn=False)")
