"""A feed over real loopback sockets, against a venue that fails in every way it knows."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import pytest
import uvloop

from bot.domain.events import FeedLost, FeedOpened
from bot.domain.instrument import Instrument
from bot.shell.clock import Clock
from bot.shell.feed import Feed
from bot.shell.feedlimits import FeedLimits
from bot.shell.inbox import Frame, Inbox
from bot.venues.binance.endpoints import Endpoints, endpoints
from bot.venues.binance.marketdata import MarketData
from tests.shell.feedserver import SNAPSHOT, FeedServer

MS = 1_000_000
MARGIN_MS = 250  # of a busy machine

FAST = FeedLimits(
    open_timeout_ms=2_000,
    close_timeout_ms=50,
    watch_ms=5,
    silence_ms=80,
    depth_frozen_ms=50,
    frozen_lag_ms=10,
    ping_interval_ms=20,
    pong_ms=40,
    pong_behind_ms=2_000,
    overlap_ms=60,
    backoff_first_ms=1,
    backoff_ms_max=4,
    attempts_max=100_000,
    snapshot_timeout_ms=2_000,
    snapshot_spacing_ms=1,
    snapshot_weight_per_min_max=1_000_000,
    limited_ms=60,
)


def at(server: FeedServer, venue: str = "binance-usdm", **options: str) -> Endpoints:
    """Endpoints on loopback, whose budgets are those of nobody."""
    found = endpoints(venue, "BTCUSDT", base=server.base, **options)
    return msgspec.structs.replace(
        found, messages_per_s_max=10_000, attempts_max=1_000_000, weight_per_min_max=10_000_000
    )


class Tap:
    """The consumer: takes everything out of the inbox and keeps it."""

    def __init__(self, feed: Feed, inbox: Inbox, clock: Clock) -> None:
        self.feed, self.inbox, self.clock = feed, inbox, clock
        self.items: list[object] = []

    async def until(self, met: Callable[[], object], timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while True:
                self.items += self.inbox.drain(10_000)
                if met():
                    return
                await self.inbox.wait(self.clock.now() + 2 * MS)

    def events(self) -> list[object]:
        return [item for item in self.items if not isinstance(item, Frame)]

    def lost(self) -> list[FeedLost]:
        return [item for item in self.items if isinstance(item, FeedLost)]

    def numbers(self, kind: str) -> list[int]:
        found = []
        for item in self.items:
            if isinstance(item, Frame) and f"@{kind}".encode() in item.raw[:40]:
                found.append(json.loads(item.raw)["data"]["n"])
        return found

    def snapshots(self) -> list[bytes]:
        return [i.raw for i in self.items if isinstance(i, Frame) and b"lastUpdateId" in i.raw]


@asynccontextmanager
async def fed(
    server: FeedServer, found: Endpoints | None = None, frames_max: int = 1_000_000, **changes: int
) -> AsyncIterator[Tap]:
    clock = Clock()
    inbox = Inbox(clock, frames_max=frames_max, bytes_max=1 << 30)
    limits = msgspec.structs.replace(FAST, **changes)
    feed = Feed(found or at(server), inbox, clock, limits)
    running = asyncio.create_task(feed.run())
    try:
        yield Tap(feed, inbox, clock)
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()


@pytest.fixture
async def server() -> AsyncIterator[FeedServer]:
    async with FeedServer() as running:
        yield running


async def flowing(tap: Tap) -> None:
    await tap.until(lambda: tap.numbers("depth") and tap.numbers("trade"))


def report(what: str, ms: float) -> None:
    sys.stdout.write(f"\n  {what}: FeedLost after {ms:.1f} ms")


async def expect_loss(tap: Tap, what: str, since: int, cause: str, deadline_ms: int) -> None:
    """One FeedLost of a cause within a deadline, and the feed comes back by itself."""
    await tap.until(tap.lost)
    lost = tap.lost()[0]
    ms = (lost.at - since) / MS
    report(what, ms)
    assert (lost.cause, lost.connection) == (cause, "public")
    assert ms <= deadline_ms + MARGIN_MS
    assert tap.feed.stats().drops[cause] == 1


async def test_everything_received_comes_out_as_it_was_sent(server):
    async with fed(server) as tap:
        await flowing(tap)
        tap.feed.request_snapshot()
        await tap.until(tap.snapshots)
        assert tap.events() == [FeedOpened(tap.events()[0].at, "public")]
        frames = [item for item in tap.items if isinstance(item, Frame)]
        stamps = [frame.recv for frame in frames]
        assert stamps == sorted(stamps)
        assert all(type(frame.raw) is bytes for frame in frames)
        assert tap.snapshots() == [SNAPSHOT.replace(b"\n", b"")]
        codec = MarketData(
            Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"))
        )
        assert len(list(codec.receive(stamps[0], tap.snapshots()[0]))) == 1
        assert codec.counts()["snapshots"] == 1
        for kind in ("depth", "bookTicker", "trade"):
            numbers = tap.numbers(kind)
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        stats = tap.feed.stats()
        assert stats.connects == 1
        assert stats.frames >= len(frames) - 1
        assert set(stats.last_recv) == {
            "btcusdt@depth@100ms",
            "btcusdt@bookTicker",
            "btcusdt@trade",
        }
        assert min(stats.last_recv.values()) > 0


async def test_two_categories_are_two_connections(server):
    async with fed(server, at(server, trades="aggTrade")) as tap:
        await tap.until(lambda: tap.numbers("depth") and tap.numbers("aggTrade"))
        assert {event.connection for event in tap.events()} == {"public", "market"}
        paths = [socket.request.path.split("?")[0] for socket in server.sockets]
        assert sorted(paths) == ["/market/stream", "/public/stream"]


@pytest.mark.parametrize("repeat", range(3))
async def test_cut(server, repeat):
    async with fed(server) as tap:
        await flowing(tap)
        since = tap.clock.now()
        server.sockets[0].transport.abort()
        await expect_loss(tap, "cut", since, "cut", deadline_ms=0)
        lost_at = tap.items.index(tap.lost()[0])
        assert not isinstance(tap.items[lost_at - 1], FeedOpened)
        await tap.until(lambda: isinstance(tap.items[-1], Frame) and len(tap.events()) == 3)
        assert [type(event) for event in tap.events()] == [FeedOpened, FeedLost, FeedOpened]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4000])
async def test_close_frame(server, code):
    async with fed(server) as tap:
        await flowing(tap)
        since = tap.clock.now()
        server.sockets[0].protocol.send_close(code, "bye")
        server.sockets[0].send_data()
        # The venue neither takes our answer nor closes the socket: nobody waits for that.
        server.sockets[0].transport.pause_reading()
        await expect_loss(tap, f"close {code}", since, "closed", FAST.watch_ms)
        assert tap.lost()[0].at - since < FAST.pong_ms * MS
        server.sockets[0].transport.abort()
        await tap.until(lambda: len(tap.events()) == 3)


async def test_half_open(server):
    """Neither data nor pongs come, and the socket stays open."""
    async with fed(server, silence_ms=5_000) as tap:
        await flowing(tap)
        server.mute = {"depth", "bookTicker", "trade"}
        since = tap.clock.now()
        server.sockets[0].transport.pause_reading()
        deadline = FAST.ping_interval_ms + FAST.pong_ms + 2 * FAST.watch_ms
        await expect_loss(tap, "half-open", since, "half_open", deadline)
        server.sockets[0].transport.abort()
        await tap.until(lambda: len(tap.events()) == 3)


async def test_a_stream_far_behind_its_pongs(server):
    async with fed(server, pong_behind_ms=100) as tap:
        await flowing(tap)
        since = tap.clock.now()
        server.sockets[0].transport.pause_reading()
        deadline = FAST.ping_interval_ms + 100 + 2 * FAST.watch_ms
        await expect_loss(tap, "pongs far behind", since, "half_open", deadline)
        assert (tap.lost()[0].at - since) / MS >= 2 * FAST.pong_ms
        server.sockets[0].transport.abort()


async def test_silent(server):
    async with fed(server) as tap:
        await flowing(tap)
        server.mute = {"depth", "bookTicker", "trade"}
        since = tap.clock.now()
        await expect_loss(tap, "silent", since, "silent", FAST.silence_ms + 2 * FAST.watch_ms)


async def test_a_connection_that_never_speaks_is_silent_too(server):
    server.mute = {"depth", "bookTicker", "trade"}
    async with fed(server) as tap:
        await tap.until(tap.events)
        await expect_loss(tap, "never spoke", tap.events()[0].at, "silent", FAST.silence_ms + 10)


async def test_depth_frozen_while_others_move(server):
    async with fed(server) as tap:
        await flowing(tap)
        server.mute = {"depth"}
        since = tap.clock.now()
        deadline = FAST.depth_frozen_ms + FAST.frozen_lag_ms + 3 * FAST.watch_ms
        await expect_loss(tap, "depth frozen", since, "frozen", deadline)


async def test_trades_may_rest(server):
    server.mute = {"trade"}
    async with fed(server) as tap:
        await tap.until(lambda: len(tap.numbers("depth")) > 60)
        assert tap.lost() == []


async def test_a_connection_of_trades_alone_may_be_silent(server):
    server.mute = {"aggTrade"}
    async with fed(server, at(server, trades="aggTrade"), silence_ms=30) as tap:
        await tap.until(lambda: len(tap.numbers("depth")) > 60)
        assert tap.lost() == []


async def test_oversized_message(server):
    async with fed(server, frame_bytes_max=10_000) as tap:
        await flowing(tap)
        since = tap.clock.now()
        server.send(server.sockets[0], "x" * 10_001)
        await expect_loss(tap, "oversized", since, "oversize", FAST.watch_ms)


async def test_garbled_bytes(server):
    async with fed(server) as tap:
        await flowing(tap)
        since = tap.clock.now()
        server.sockets[0].transport.write(b"\xff" * 64)
        await expect_loss(tap, "garbled", since, "garbled", FAST.watch_ms)


async def test_refused_handshake_is_retried(server):
    server.refusal = (503, {}, b"")
    async with fed(server) as tap:
        await tap.until(lambda: server.handshakes >= 5)
        assert tap.items == []
        server.refusal = None
        await flowing(tap)
        assert tap.feed.stats().refused == {"status 503": server.handshakes - 1}


async def test_a_refusal_that_names_a_time_is_obeyed(server):
    server.refusal = (429, {}, b"")
    async with fed(server, limited_ms=100) as tap:
        await tap.until(lambda: server.handshakes == 1)
        server.refusal = None
        await flowing(tap)
    first, second = server.handshake_times
    assert second - first >= 0.095


async def test_a_refusal_whose_time_is_now_is_retried_now(server):
    server.refusal = (429, {"Retry-After": "0"}, b"")
    async with fed(server, limited_ms=60_000) as tap:
        await tap.until(lambda: server.handshakes >= 3)
        server.refusal = None
        await flowing(tap)


async def test_server_restart(server):
    async with fed(server) as tap:
        await flowing(tap)
        since = tap.clock.now()
        await server.stop()
        await expect_loss(tap, "restart", since, "cut", deadline_ms=0)
        await tap.until(lambda: tap.feed.stats().refused.get("unreachable", 0) >= 3)
        await server.start()
        seen = len(tap.numbers("depth"))
        await tap.until(lambda: len(tap.numbers("depth")) > seen)
        assert [type(event) for event in tap.events()] == [FeedOpened, FeedLost, FeedOpened]


async def test_a_handshake_without_an_answer_times_out():
    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    deaf = await asyncio.start_server(ignore, "127.0.0.1", 0)
    server = FeedServer()
    server.port = deaf.sockets[0].getsockname()[1]
    async with fed(server, open_timeout_ms=20) as tap:
        await tap.until(lambda: tap.feed.stats().refused.get("timeout", 0) >= 2)
        assert tap.items == []
    for writer in writers:
        writer.transport.abort()
    deaf.close()
    await deaf.wait_closed()


STRAY = [
    b"",
    b"HELLO\r\n\r\n",
    b"\xff\x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    bytes(range(256)) * 8,
]


@pytest.mark.parametrize("answer", STRAY)
async def test_a_port_that_speaks_something_else_is_retried(answer):
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    other = await asyncio.start_server(rude, "127.0.0.1", 0)
    server = FeedServer()
    server.port = other.sockets[0].getsockname()[1]
    async with fed(server) as tap:
        await tap.until(lambda: sum(tap.feed.stats().refused.values()) >= 30)
        assert tap.items == []
    other.close()
    await other.wait_closed()


async def test_a_loop_that_was_held_up_blames_nobody(server):
    async with fed(server) as tap:
        await flowing(tap)
        for _ in range(3):
            time.sleep(2 * FAST.silence_ms / 1_000)  # noqa: ASYNC251 - that is the point
            seen = len(tap.numbers("depth"))
            await tap.until(lambda seen=seen: len(tap.numbers("depth")) > seen + 5)
        assert tap.lost() == []


async def test_the_attempts_budget_holds(server):
    server.refusal = (503, {}, b"")
    async with fed(server, attempts_max=4, attempts_window_ms=300_000) as tap:
        await tap.until(lambda: server.handshakes >= 4)
        with pytest.raises(TimeoutError):
            await tap.until(lambda: server.handshakes > 4, timeout_s=0.1)


async def test_burst():
    async with FeedServer(interval_s=0) as server, fed(server, silence_ms=5_000) as tap:
        await tap.until(lambda: server.sockets and tap.items)
        began = tap.clock.now()
        for _ in range(10_000):
            server.publish()
        await tap.until(lambda: len(tap.items) == 30_001)
        ms = (tap.clock.now() - began) / MS
        sys.stdout.write(f"\n  burst of 30,000 frames: all taken after {ms:.0f} ms")
        for kind in ("depth", "bookTicker", "trade"):
            assert tap.numbers(kind) == list(range(1, 10_001))
        assert tap.lost() == []


async def test_slow_consumer_gets_one_marker():
    async with (
        FeedServer(interval_s=0) as server,
        fed(server, frames_max=1_000, silence_ms=5_000) as tap,
    ):
        await tap.until(lambda: server.sockets and tap.items)
        tap.items.clear()
        for _ in range(1_000):
            server.publish()
        # Nobody drains until the socket is read to its end.
        await settled(lambda: tap.feed.stats().frames >= 3_000)
        assert tap.inbox.dropped == 2_000
        server.publish()
        await tap.until(lambda: len(tap.items) >= 1_001)
        server.publish()
        await tap.until(lambda: 1_002 in tap.numbers("trade"))
        assert [(loss.cause, loss.connection) for loss in tap.lost()] == [("overflow", "")]
        assert tap.items.index(tap.lost()[0]) == 1_000


# --- rollover --------------------------------------------------------------------------------


def contiguous(numbers: list[int]) -> bool:
    found = sorted(set(numbers))
    return found == list(range(found[0], found[-1] + 1))


@pytest.mark.parametrize("mute", [set(), {"trade"}], ids=["all speak", "trades rest"])
async def test_rollover_loses_nothing(server, mute):
    server.mute = mute
    async with fed(server, age_ms_max=120, age_jitter_ms=0) as tap:
        await tap.until(lambda: tap.feed.stats().drops.get("retired", 0) >= 3)
        seen = len(tap.numbers("depth"))
        await tap.until(lambda: len(tap.numbers("depth")) > seen)
        assert [type(event) for event in tap.events()] == [FeedOpened]
        assert tap.feed.stats().rollovers >= 3
        for kind in {"depth", "bookTicker", "trade"} - mute:
            assert contiguous(tap.numbers(kind))
        assert set(tap.feed.stats().drops) == {"retired"}


async def test_server_shutdown_opens_a_successor(server):
    async with fed(server) as tap:
        await flowing(tap)
        first = server.sockets[0]
        server.send(first, '{"e":"serverShutdown","E":1770123456789}')
        await tap.until(lambda: tap.feed.stats().rollovers == 1)
        await tap.until(lambda: first not in server.sockets)
        assert [type(event) for event in tap.events()] == [FeedOpened]
        assert contiguous(tap.numbers("depth"))


async def test_death_of_the_old_connection_is_covered_by_its_successor(server):
    """Trades rest, so the successor waits for the overlap's end; meanwhile the old one dies."""
    server.mute = {"trade"}
    async with fed(server, overlap_ms=5_000) as tap:
        await tap.until(lambda: tap.numbers("depth"))
        server.send(server.sockets[0], '{"e":"serverShutdown","E":1}')
        await tap.until(lambda: len(server.sockets) == 2)
        opened = len(tap.numbers("depth"))
        await tap.until(lambda: len(tap.numbers("depth")) > opened + 10)
        server.sockets[0].transport.abort()
        await tap.until(lambda: tap.feed.stats().drops.get("cut"))
        assert [type(event) for event in tap.events()] == [FeedOpened]
        assert contiguous(tap.numbers("depth"))


async def test_a_successor_that_says_nothing_does_not_take_over(server):
    async with fed(server, age_ms_max=100, age_jitter_ms=0) as tap:
        await flowing(tap)
        publish = server.publish

        def to_the_first_only() -> None:
            rest, server.sockets = server.sockets[1:], server.sockets[:1]
            publish()
            server.sockets += rest

        server.publish = to_the_first_only
        await tap.until(lambda: tap.feed.stats().drops.get("silent", 0) >= 2)
        assert [type(event) for event in tap.events()] == [FeedOpened]
        assert contiguous(tap.numbers("depth"))
        server.publish = publish
        await tap.until(lambda: tap.feed.stats().rollovers >= 1)
        assert tap.lost() == []


async def test_death_without_a_proven_successor_is_a_loss(server):
    async with fed(server) as tap:
        await flowing(tap)
        server.mute = {"depth"}
        first = server.sockets[0]
        server.send(first, '{"e":"serverShutdown","E":1}')
        await tap.until(lambda: len(server.sockets) == 2)
        first.transport.abort()
        await tap.until(tap.lost)
        assert [type(event) for event in tap.events()][:3] == [FeedOpened, FeedLost, FeedOpened]


# --- snapshots -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "failures"),
    [
        ([(500, {}, b"")], {"status 500": 1}),
        ([(200, {}, b"<html>")], {"garbage": 1}),
        ([(200, {}, b'{"code":-1003,"msg":"x"}')], {"garbage": 1}),
        ([(200, {}, SNAPSHOT[:30])], {"garbage": 1}),
        ([(200, {"Content-Length": "999"}, SNAPSHOT)], {"unreachable": 1}),
        ([(301, {"Location": "http://127.0.0.1:1/"}, b"")], {"status 301": 1}),
        ([(200, {}, SNAPSHOT + b" " * 9_000)], {"garbage": 1}),
        ([None], {"timeout": 1}),
        ([(503, {}, b"")] * 4, {"status 503": 4}),
    ],
    ids=["500", "html", "error", "half", "short", "redirect", "oversized", "timeout", "503s"],
)
async def test_a_failed_snapshot_is_fetched_again(server, answers, failures):
    server.snapshots = list(answers)
    timeout_ms = 50 if None in answers else FAST.snapshot_timeout_ms
    async with fed(server, snapshot_bytes_max=5_000, snapshot_timeout_ms=timeout_ms) as tap:
        tap.feed.request_snapshot()
        await tap.until(tap.snapshots)
        assert tap.snapshots() == [SNAPSHOT.replace(b"\n", b"")]
        assert tap.feed.stats().snapshot_failures == failures
        assert tap.feed.stats().snapshots == 1


@pytest.mark.parametrize("status", [418, 429])
async def test_retry_after_is_obeyed(server, status):
    """A header of 0 s beats our own minute; without one, our own pause holds."""
    server.snapshots = [(status, {"Retry-After": "0"}, b"")]
    async with fed(server, limited_ms=60_000) as tap:
        tap.feed.request_snapshot()
        await tap.until(tap.snapshots)
    server.snapshots = [(status, {"Retry-After": "soon"}, b"")]
    server.snapshot_times.clear()
    async with fed(server, limited_ms=100) as tap:
        tap.feed.request_snapshot()
        await tap.until(tap.snapshots)
    first, second = server.snapshot_times
    assert second - first >= 0.095


async def test_requests_are_one_while_one_is_under_way(server):
    server.snapshots = [(500, {}, b"")] * 3
    async with fed(server) as tap:
        for _ in range(100):
            tap.feed.request_snapshot()
        await tap.until(tap.snapshots)
        for _ in range(3):
            tap.feed.request_snapshot()
        await tap.until(lambda: len(tap.snapshots()) == 2)
        with pytest.raises(TimeoutError):
            await tap.until(lambda: len(tap.snapshots()) > 2, timeout_s=0.05)


async def test_snapshots_are_spaced(server):
    async with fed(server, snapshot_spacing_ms=100) as tap:
        for n in (1, 2):
            tap.feed.request_snapshot()
            await tap.until(lambda n=n: len(tap.snapshots()) == n)
    first, second = server.snapshot_times
    assert second - first >= 0.06


async def test_the_weight_budget_holds(server):
    async with fed(server, snapshot_weight_per_min_max=2 * 20) as tap:
        for n in (1, 2):
            tap.feed.request_snapshot()
            await tap.until(lambda n=n: len(tap.snapshots()) == n)
        tap.feed.request_snapshot()
        with pytest.raises(TimeoutError):
            await tap.until(lambda: len(tap.snapshots()) == 3, timeout_s=0.1)


# --- leaving nothing behind ------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def settled(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not met():  # noqa: ASYNC110 - sockets and tasks of a loop raise no event
            await asyncio.sleep(0.001)


async def test_five_hundred_reconnects_leave_no_task_and_no_descriptor():
    async with FeedServer(interval_s=0) as server:
        tasks, fds = len(asyncio.all_tasks()), descriptors()
        began = Clock().now()
        async with fed(server, silence_ms=5_000, backoff_first_ms=0, backoff_ms_max=0) as tap:
            for n in range(500):
                await tap.until(lambda n=n: tap.feed.stats().connects > n and server.sockets)
                server.sockets[0].transport.abort()
                await tap.until(lambda n=n: len(tap.lost()) > n)
            assert len(asyncio.all_tasks()) < tasks + 20
        ms = (tap.clock.now() - began) / MS / 500
        sys.stdout.write(f"\n  500 reconnects: {ms:.1f} ms each")
        await settled(lambda: len(asyncio.all_tasks()) == tasks and descriptors() == fds)
        assert len(tap.lost()) == 500


@pytest.mark.parametrize("moment", ["connecting", "open", "rolling", "fetching", "backing off"])
async def test_cancelling_closes_everything(server, moment):
    tasks, fds = len(asyncio.all_tasks()), descriptors()
    changes: dict[str, int] = {}
    if moment == "backing off":
        server.refusal = (503, {}, b"")
        changes = {"backoff_first_ms": 60_000, "backoff_ms_max": 60_000}
    if moment == "fetching":
        server.snapshots = [None]
        changes = {"snapshot_timeout_ms": 60_000}
    if moment == "rolling":
        server.mute = {"trade"}
        changes = {"age_ms_max": 1, "age_jitter_ms": 0, "overlap_ms": 60_000}
    async with fed(server, **changes) as tap:
        if moment == "open":
            await flowing(tap)
        elif moment == "rolling":
            await tap.until(lambda: len(server.sockets) == 2)
        elif moment == "fetching":
            tap.feed.request_snapshot()
            await tap.until(lambda: server.snapshot_times)
        elif moment == "backing off":
            await tap.until(lambda: server.handshakes)
        else:
            await asyncio.sleep(0)
    server.sockets[:] = [s for s in server.sockets if s.protocol.state.name == "OPEN"]
    await settled(lambda: len(asyncio.all_tasks()) == tasks and descriptors() == fds)


def test_the_same_on_uvloop():
    async def story() -> list[str]:
        async with FeedServer() as server:
            tasks, fds = len(asyncio.all_tasks()), descriptors()
            async with fed(server) as tap:
                await flowing(tap)
                tap.feed.request_snapshot()
                await tap.until(tap.snapshots)
                server.send(server.sockets[0], '{"e":"serverShutdown","E":1}')
                await tap.until(lambda: tap.feed.stats().rollovers and len(server.sockets) == 1)
                server.sockets[-1].transport.abort()
                await tap.until(lambda: len(tap.events()) == 3)
                server.mute = {"depth", "bookTicker", "trade"}
                server.sockets[-1].transport.pause_reading()
                await tap.until(lambda: len(tap.lost()) == 2)
                server.sockets[-1].transport.abort()
            await settled(lambda: len(asyncio.all_tasks()) == tasks and descriptors() == fds)
            return [loss.cause for loss in tap.lost()]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(story()) == ["cut", "half_open"]


async def test_a_full_inbox_of_events_stops_the_feed(server):
    clock = Clock()
    inbox = Inbox(clock, frames_max=10, bytes_max=1_000, events_max=1)
    inbox.put_event(FeedOpened(0, "other"))
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(Feed(at(server), inbox, clock, FAST).run(), 2)
    assert "events wait in the inbox" in repr(raised.value)


async def test_repr_names_sessions(server):
    async with fed(server) as tap:
        await flowing(tap)
        assert repr(tap.feed).startswith("<Feed BTCUSDT: public [<Session frames=")
