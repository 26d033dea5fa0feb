"""A run on a played capture is a replay of it: the same book lines, the same decisions."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bot.journal.capture import CaptureError, chunks
from bot.journal.run import Run
from bot.journal.segments import read_segments
from bot.modes.audit import audit
from bot.modes.demo import ExchangeProcess, on_exchange
from bot.modes.enginerun import EngineRun, new_codec
from bot.modes.replay import bbo_lines
from bot.modes.run import BYTES_MAX, EXIT_DONE, FRAMES_MAX, LiveRun, feed_limits
from bot.modes.serve import Serving, new_playback
from bot.modes.settings import Loaded, load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.feed import Feed
from bot.shell.inbox import Frame, Inbox
from bot.shell.playback import Playback, received
from bot.venues.binance.endpoints import endpoints
from tests.shell.wire import client, eventually

ROOT = Path(__file__).resolve().parents[2]
LINES = 16_000  # the first minute of the futures, more than two of spot
MARKETS = ("spot", "usdm")
PATIENCE_S = 120.0
FREE_S = 2.0
COMMAND_S = 3.0
BOOKS_PER_S = 5  # half of what the slower capture has


def config_of(market: str) -> Path:
    return ROOT / "config" / f"paper-binance-{market}.yaml"


class Stamps(Clock):
    """A clock that stands at the receive time of the line under way."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def now(self) -> int:
        return self.at


class Stepped:
    """A paper run on a feed, in which every frame is a batch of its own."""

    def __init__(self, loaded: Loaded, folder: Path, clock: Stamps, port: int) -> None:
        settings = loaded.settings
        where = endpoints(settings.venue, settings.symbol, base=f"http://127.0.0.1:{port}")
        self.run = Run.create(folder, "run")
        self.run.write_manifest({})
        self.engine_run = EngineRun(loaded, self.run, mode="paper", started_at=clock.now())
        self.inbox = Inbox(clock, frames_max=FRAMES_MAX, bytes_max=BYTES_MAX)
        self.feed = Feed(where, self.inbox, clock, feed_limits(loaded))
        self.clock = clock

    async def take(self) -> Any:
        """Wait for the next item and let the run have it."""
        await self.inbox.wait(None)
        (item,) = self.inbox.drain(FRAMES_MAX)
        self.engine_run.pump.batch([item], self.clock.now())
        self.look()
        return item

    def wake_until(self, now: int) -> None:
        """Every wake-up that a loop with an exact timer would make up to `now`."""
        while (due := self.engine_run.pump.due()) is not None and due <= now:
            self.clock.at = due
            self.engine_run.pump.wake(due)
            self.look()

    def look(self) -> None:
        """Fetch a snapshot if the book wants one."""
        if self.engine_run.pump.wants_snapshot(self.clock.now()):
            self.feed.request_snapshot()


@pytest.fixture(scope="module", params=MARKETS)
def market(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(market: str) -> Loaded:
    # A rebate brings the quotes so near that some of them are filled.
    return load(config_of(market), env={}, sets=["fees.maker_bp=-1"])


@pytest.fixture(scope="module")
def capture(market: str, request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(f"{market}_capture")
    return path


@pytest.fixture(scope="module")
def lines(capture: Path) -> list[bytes]:
    """The capture's first lines, each with its newline."""
    return next(chunks([capture])).splitlines(keepends=True)[:LINES]


def as_asked(line: bytes) -> bytes:
    """A line of a capture with the depth stream's name as the feed asks for it."""
    return line.replace(b"@depth@0ms", b"@depth@100ms")


def books(loaded: Loaded, pieces: Iterable[bytes]) -> list[dict[str, Any]]:
    """The lines of `replay --emit bbo`, without their receive times."""
    instrument = loaded.instrument
    found = [json.loads(line) for line in bbo_lines(new_codec(instrument), instrument, pieces)]
    for line in found:
        del line["recv_ns"]
    return found


async def stepped_through(
    loaded: Loaded, lines: list[bytes], capture: Path, folder: Path
) -> Stepped:
    """A run that got every line over sockets, the clock at each line's own stamp."""
    clock = Stamps(received(lines[0]))
    played = Playback([capture], loaded.instrument, clock.now, lockstep=True)
    async with asyncio.timeout(PATIENCE_S), played:
        live = Stepped(loaded, folder, clock, played.port)
        feeding = asyncio.create_task(live.feed.run())
        try:
            await live.take()  # FeedOpened
            for line in lines:
                stamp = received(line)
                live.wake_until(stamp)
                clock.at = stamp
                if b'"lastUpdateId"' in line:
                    await eventually(lambda: played.waiting == 1)
                assert await played.step() == line.rstrip(b"\n")
                assert isinstance(await live.take(), Frame)
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
        live.engine_run.close("end of capture")
    return live


async def test_a_run_over_sockets_journals_and_decides_as_a_replay(
    loaded: Loaded, lines: list[bytes], capture: Path, tmp_path: Path
) -> None:
    live = await stepped_through(loaded, lines, capture, tmp_path)
    stats = live.feed.stats()
    assert (stats.connects, stats.drops, stats.snapshots) == (1, {}, 1)
    journalled = b"".join(read_segments(live.run.journal))
    assert journalled.splitlines(keepends=True) == [as_asked(line) for line in lines]
    own = books(loaded, read_segments(live.run.journal))
    assert own == books(loaded, [b"".join(lines)])
    assert len(own) > 1_000
    replay = EngineRun(loaded)
    replay.feed_all([b"".join(lines)])
    assert live.engine_run.digest.hexdigest == replay.digest.hexdigest
    assert replay.summary.placed > 300
    assert replay.summary.fills > 10
    result, expected = live.engine_run.result(), replay.result()
    ours = {"run", "wall_s", "frames_per_s"}
    assert {k: v for k, v in result.items() if k not in ours} == {
        k: v for k, v in expected.items() if k not in ours
    }
    audited = audit(live.run.path)
    assert (audited["ok"], audited["frames"]) == (True, LINES)


def same_books(loaded: Loaded, folder: Path, lines: list[bytes]) -> int:
    """How many book lines a run made: those of the capture, from its first trust on."""
    own = books(loaded, read_segments(Run(folder).journal))
    every = books(loaded, [b"".join(lines)])
    start = every.index(own[0])
    assert own == every[start : start + len(own)]
    return len(own)


async def test_a_free_run_keeps_the_book_of_the_capture(
    market: str, loaded: Loaded, lines: list[bytes], capture: Path, tmp_path: Path
) -> None:
    warm()
    clock = Clock()
    sets = [f"run.folder={tmp_path}", "web.enabled=false"]
    async with (
        asyncio.timeout(PATIENCE_S),
        Playback([capture], loaded.instrument, clock.now, speed=2.0) as played,
    ):
        own = load(config_of(market), env={}, sets=sets)
        live = LiveRun(on_exchange(own, f"http://127.0.0.1:{played.port}"))
        assert await live.go(FREE_S) == EXIT_DONE
    result = live.result()
    assert (result["gaps"], result["reconnects"], result["dropped_frames"]) == (0, 0, 0)
    assert result["orders_placed"] > 0
    assert same_books(loaded, live.folder.path, lines) > FREE_S * BOOKS_PER_S
    audited = audit(live.folder.path)
    assert (audited["ok"], audited["closed"]) == (True, True)
    assert audited["decisions"] == result["decisions"]


@pytest.mark.parametrize("market", ["usdm"], indirect=True)
async def test_the_command_line_runs_on_a_served_capture(
    market: str, loaded: Loaded, lines: list[bytes], capture: Path, tmp_path: Path
) -> None:
    settings = loaded.settings
    arguments = ["--venue", settings.venue, "--symbol", settings.symbol]
    arguments += ["--capture", str(capture), "--speed", "2"]
    async with asyncio.timeout(PATIENCE_S):
        with ExchangeProcess(arguments) as server:
            url = (await asyncio.to_thread(server.served)).url
            run = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bot", "run", str(config_of(market)), "--json",
                "--seconds", str(COMMAND_S), "--set", f"feed.base_url={url}",
                "--set", f"run.folder={tmp_path}", "--set", "web.enabled=false",
                cwd=ROOT, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            said, logged = await run.communicate()
    assert run.returncode == EXIT_DONE, logged.decode()
    result = json.loads(said)
    assert result["trusted_share"] > 0.5
    assert (result["gaps"], result["reconnects"], result["unreadable"]) == (0, 0, 0)
    folder = Path(result["run"])
    assert same_books(loaded, folder, lines) > COMMAND_S * BOOKS_PER_S
    assert audit(folder)["frames"] == result["frames"]


async def test_serving_ends_with_a_sentence_when_the_capture_cannot_be_played(
    usdm_capture: Path,
) -> None:
    spot = load(config_of("spot"), env={}).instrument
    ports: list[int] = []
    serving = Serving(new_playback(spot, Clock(), [usdm_capture], speed=100.0))
    task = asyncio.create_task(serving.run(ports.append, with_parent=False))
    await eventually(lambda: ports)
    async with client(ports[0], "/stream?streams=btcusdt@depth@100ms"):
        with pytest.raises(CaptureError, match=f"{usdm_capture.name} holds depth frames of"):
            await asyncio.wait_for(task, PATIENCE_S)
