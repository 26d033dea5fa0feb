"""Recordings over real sockets, read back with what reads every capture."""

import asyncio
import gzip
import json
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from bot.cli import app
from bot.journal.capture import JournalError, chunks
from bot.journal.segments import read_segments
from bot.modes import record
from bot.modes.enginerun import EngineRun
from bot.modes.record import Recording
from bot.modes.replay import bbo_lines
from bot.modes.serve import new_server
from bot.modes.settings import ConfigError, Loaded, load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.playback import Playback
from bot.shell.venueserver import VenueServer
from bot.venues.binance.marketdata import MarketData
from tests.shell.wire import eventually

CONFIG = Path(__file__).resolve().parents[2] / "config"
USDM = CONFIG / "paper-binance-usdm.yaml"
SPOT = CONFIG / "paper-binance-spot.yaml"
STARTED_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """A kernel that compiles in the middle would stop both ends of a socket."""
    warm()


def config(base: str, *sets: str, path: Path = USDM) -> Loaded:
    return load(path, env={}, sets=[f"feed.base_url={base}", *sets])


@asynccontextmanager
async def exchange(speed: float = 5.0, path: Path = USDM) -> AsyncIterator[VenueServer]:
    """The simulated exchange on a free port."""
    instrument = load(path, env={}).instrument
    async with new_server(instrument, Clock(), speed=speed) as server:
        yield server


def url(server: VenueServer | Playback) -> str:
    return f"http://127.0.0.1:{server.port}"


@asynccontextmanager
async def going(recording: Recording) -> AsyncIterator[None]:
    """A recording under way; ends it, and expects a clean end."""
    task = asyncio.create_task(recording.go())
    try:
        yield
    finally:
        recording.stop("seen enough")
        assert await task == 0


def updates(recording: Recording) -> int:
    return recording.codec.counts()["depth_updates"]


def lines_of(files: Sequence[Path]) -> list[bytes]:
    return b"".join(chunks(files)).splitlines()


def frames_of(lines: Sequence[bytes]) -> list[bytes]:
    return [line.split(b" ", 1)[1] for line in lines]


def replayed(loaded: Loaded, files: Sequence[Path]) -> EngineRun:
    run = EngineRun(loaded)
    run.feed_all(chunks(files))
    return run


def touches(frames: Sequence[bytes]) -> tuple[list[int], list[list[Decimal]]]:
    """Ids and best prices and quantities of the ticker, which the book has no part in."""
    seen = [json.loads(frame).get("data", {}) for frame in frames]
    tickers = [data for data in seen if data.get("e") == "bookTicker"]
    return [t["u"] for t in tickers], [[Decimal(t[key]) for key in "bBaA"] for t in tickers]


# --- What is recorded can be replayed ---------------------------------------------------------


@pytest.mark.parametrize("path", [USDM, SPOT])
async def test_a_recording_replays_to_the_market_s_own_touch(path: Path, tmp_path: Path) -> None:
    async with exchange(path=path) as server:
        loaded = config(url(server), path=path)
        recording = Recording(loaded, tmp_path)
        async with going(recording):
            await eventually(lambda: updates(recording) >= 40)
    result = recording.result()
    run = replayed(loaded, recording.files)
    again = run.result()
    assert run.engine.book.trusted
    assert (result["gaps"], again["gaps"], again["resyncs"], again["unreadable"]) == (0, 0, 0, 0)
    for key in ("frames", "depth_updates", "trades", "book_tickers", "gaps", "unreadable"):
        assert result[key] == again[key], key
    assert (result["snapshots"], result["reconnects"], result["in_sequence"]) == (1, 0, True)

    lines = lines_of(recording.files)
    assert [int(line.split(b" ")[0]) for line in lines] == sorted(
        int(line.split(b" ")[0]) for line in lines
    )
    assert result["bytes"] == sum(map(len, frames_of(lines)))
    codec = MarketData(loaded.instrument)
    touched = [
        json.loads(line) for line in bbo_lines(codec, loaded.instrument, chunks(recording.files))
    ]
    assert len(touched) >= 30
    if path is USDM:  # a spot ticker carries no event name
        ids, best = touches(frames_of(lines))
        known = [(at, bisect_right(ids, at["u"])) for at in touched]
        compared = [(at, best[n - 1]) for at, n in known if n > 0]
        assert len(compared) >= 30
        for at, truth in compared:
            keys = ("bid", "bid_qty", "ask", "ask_qty")
            assert [Decimal(at[key]) for key in keys] == truth


async def test_a_gap_brings_a_new_snapshot_into_the_capture(tmp_path: Path) -> None:
    async with exchange() as server:
        loaded = config(url(server))
        recording = Recording(loaded, tmp_path)
        async with going(recording):
            await eventually(lambda: updates(recording) >= 5 and recording.codec.sync.synced)
            server.swallow(1)
            await eventually(lambda: recording.codec.gaps == 1)
            await eventually(lambda: recording.codec.sync.synced)
            done = updates(recording)
            await eventually(lambda: updates(recording) > done)
    result = recording.result()
    run = replayed(loaded, recording.files)
    assert (result["gaps"], result["snapshots"], result["reconnects"]) == (1, 2, 0)
    assert (run.codec.gaps, run.codec.sync.resyncs) == (1, 2)
    assert run.engine.book.trusted


async def test_a_lost_feed_does_not_end_a_recording(tmp_path: Path) -> None:
    async with exchange() as server:
        loaded = config(url(server))
        recording = Recording(loaded, tmp_path)
        async with going(recording):
            await eventually(lambda: recording.codec.sync.synced)
            before = recording.frames
            server.cut()
            await eventually(lambda: recording.feed.stats().connects == 2)
            await eventually(lambda: recording.frames > before + 100)
            await eventually(lambda: recording.codec.sync.synced)
    result = recording.result()
    run = replayed(loaded, recording.files)
    assert (result["reconnects"], sum(result["feed_drops"].values())) == (1, 1)
    assert run.codec.gaps == result["gaps"]
    assert run.engine.book.trusted


async def test_a_snapshot_comes_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are rotated, and a file that is read alone needs one of its own."""
    monkeypatch.setattr(record, "SNAPSHOT_NS", 1_000_000)
    monkeypatch.setattr(record, "FLUSH_NS", 10_000_000)
    async with exchange() as server:
        loaded = config(url(server))
        recording = Recording(loaded, tmp_path, segment_bytes=20_000)
        async with going(recording):
            await eventually(lambda: recording.codec.sync.synced)
            first = recording.codec.counts()["snapshots"]
            await eventually(lambda: recording.codec.counts()["snapshots"] > first)
            await eventually(lambda: len(recording.files) >= 5)
    run = replayed(loaded, recording.files)
    assert run.engine.book.trusted
    assert (run.codec.gaps, run.codec.sync.resyncs) == (0, 1)
    assert run.pump.frames == recording.frames


async def test_frames_are_recorded_byte_for_byte(spot_capture: Path, tmp_path: Path) -> None:
    with gzip.open(spot_capture) as text:
        lines = [line.rstrip(b"\n") for line in islice(text, 6_000)]
    part = tmp_path / "part"
    part.write_bytes(b"\n".join(lines) + b"\n")
    sent = frames_of(lines)
    opening = next(i for i, frame in enumerate(sent) if frame.startswith(b'{"lastUpdateId"'))
    played = Playback([part], load(SPOT, env={}).instrument, time.time_ns, lockstep=True)
    async with played:
        loaded = config(url(played), path=SPOT)
        recording = Recording(loaded, tmp_path / "out")
        async with going(recording):
            await eventually(played.sockets.subscribed.is_set)
            for i in range(len(lines)):
                if i == opening:
                    await eventually(lambda: played.waiting == 1)
                await played.step()
                if i <= opening:  # two sockets: their order is only what we wait for
                    await eventually(lambda: recording.frames == played.lines)
            await eventually(lambda: recording.frames == len(lines))
    assert frames_of(lines_of(recording.files)) == sent
    assert recording.result()["gaps"] == 0

    def touched(files: Sequence[Path]) -> list[dict[str, Any]]:
        read = bbo_lines(MarketData(loaded.instrument), loaded.instrument, chunks(files))
        return [{**json.loads(line), "recv_ns": 0} for line in read]

    assert touched(recording.files) == touched([part])
    assert len(touched([part])) > 400


# --- How it begins and ends -------------------------------------------------------------------


@asynccontextmanager
async def recorder(base: str, out: Path) -> AsyncIterator[Process]:
    """`mmbot record` as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", "record", str(USDM), "--out", str(out), "--json"),
        *("--set", f"feed.base_url={base}"),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(process: Process, condition: Callable[[], Any]) -> None:
    """Wait while a process starts, which may take long on a busy machine."""
    async with asyncio.timeout(STARTED_S):
        while not condition():
            assert process.returncode is None, "it ended by itself"
            await asyncio.sleep(0.01)


def stem_of(folder: Path) -> str:
    return next(folder.glob("*-000001.zst")).name.removesuffix("-000001.zst")


def readable(folder: Path) -> list[bytes]:
    """The lines of a recording that may still grow, or was cut."""
    return b"".join(read_segments(folder, stem_of(folder))).splitlines()


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def size_of(folder: Path) -> int:
    """Bytes of all files; 0 for a folder that is not there yet."""
    return sum(path.stat().st_size for path in files_in(folder)) if folder.exists() else 0


def written(folder: Path) -> Callable[[], bool]:
    """Whether something was written since the first time that something was there."""
    sizes: list[int] = []

    def grown() -> bool:
        sizes.append(size_of(folder))
        return len({size for size in sizes if size}) > 1

    return grown


async def ended(base: str, out: Path, name: signal.Signals) -> tuple[int | None, bytes, int]:
    """A recording that a signal ends: its exit code, what it said, and when that was, ns."""
    async with recorder(base, out) as process:
        await until(process, written(out))
        at = time.time_ns()
        process.send_signal(name)
        said, _ = await process.communicate()
        return process.returncode, said, at


async def test_signals(tmp_path: Path) -> None:
    codes = {signal.SIGTERM: 0, signal.SIGINT: 130, signal.SIGKILL: -9}
    folders = [tmp_path / name.name for name in codes]
    async with exchange(speed=1.0) as server:
        pairs = zip(folders, codes, strict=True)
        ends = await asyncio.gather(*(ended(url(server), *pair) for pair in pairs))
    assert [code for code, _, _ in ends] == list(codes.values())
    for (_, said, at), folder, name in zip(ends, folders, codes, strict=True):
        lines = readable(folder)
        assert int(lines[-1].split(b" ")[0]) > at - 2_000_000_000
        run = EngineRun(load(USDM, env={}))
        run.feed_all([b"\n".join(lines) + b"\n"])
        assert run.codec.gaps == 0
        assert run.engine.book.trusted
        if name is not signal.SIGKILL:
            result = json.loads(said)
            assert (result["frames"], result["reason"]) == (len(lines), name.name)
            assert result["files"] == [str(path) for path in files_in(folder)]
            assert result["compressed_bytes"] == size_of(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process as only Linux can")
async def test_a_full_disk_ends_it_with_a_sentence_and_whole_files(tmp_path: Path) -> None:
    import resource

    async with exchange() as server, recorder(url(server), tmp_path) as process:
        await until(process, written(tmp_path))
        full = size_of(tmp_path) + 500
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (full, full))
        said, noted = await asyncio.wait_for(process.communicate(), STARTED_S)
        assert (process.returncode, said) == (2, b"")
    sentences = [line for line in noted.decode().splitlines() if not line.startswith("{")]
    assert len(sentences) == 1
    assert sentences[0].startswith(f"market frames cannot be written to {tmp_path}: ")
    assert lines_of(files_in(tmp_path)) == readable(tmp_path)


async def test_what_was_received_before_the_end_is_recorded(tmp_path: Path) -> None:
    recording = Recording(config(f"http://127.0.0.1:{closed_port()}"), tmp_path)
    for i in range(10_000):
        recording.inbox.put_frame(i, b'{"u":%d}' % i)
    recording.stop("at once")
    assert await recording.go() == 0
    assert lines_of(recording.files) == [b'%d {"u":%d}' % (i, i) for i in range(10_000)]
    assert recording.result()["frames"] == 10_000


def mmbot(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_an_unreachable_venue_is_exit_5(tmp_path: Path) -> None:
    base = f"feed.base_url=http://127.0.0.1:{closed_port()}"
    sets = ["--set", base, "--set", "feed.patience_s=0.2"]
    done = mmbot("record", USDM, "--out", tmp_path / "new", "--json", *sets)
    assert done.exit_code == 5
    result = json.loads(done.stdout)
    assert (result["frames"], result["files"]) == (0, [])
    assert result["reason"] == "the venue cannot be reached"
    assert list((tmp_path / "new").iterdir()) == []


def test_it_stops_by_itself_and_tells_people(tmp_path: Path) -> None:
    base = f"feed.base_url=http://127.0.0.1:{closed_port()}"
    done = mmbot("record", USDM, "--out", tmp_path, "--set", base, "--seconds", "0.05")
    assert done.exit_code == 0
    assert "recorded for 0.05 s" in done.stdout


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_written_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mmbot("record", USDM, "--out", tmp_path / "file" / below)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{tmp_path / 'file' / below} cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


async def test_no_file_is_overwritten(tmp_path: Path) -> None:
    async with exchange() as server:
        recording = Recording(config(url(server)), tmp_path)
        path = tmp_path / f"{recording.segments.stem}-000001.zst"
        path.write_bytes(b"somebody's")
        with pytest.raises(JournalError, match="File exists"):
            await asyncio.wait_for(recording.go(), STARTED_S)
    assert path.read_bytes() == b"somebody's"


async def test_a_second_recording_shares_the_folder(tmp_path: Path) -> None:
    async with exchange() as server, exchange(path=SPOT) as other:
        first = Recording(config(url(server)), tmp_path)
        second = Recording(config(url(other), path=SPOT), tmp_path)
        async with going(first), going(second):
            await eventually(lambda: min(first.frames, second.frames) > 10)
    assert len(first.files) == len(second.files) == 1
    assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize("setting", ["feed.base_url=ftp://x", "feed.world=testnet"])
def test_a_feed_that_cannot_be_is_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feed: "):
        Recording(load(USDM, env={}, sets=[setting]), tmp_path)
