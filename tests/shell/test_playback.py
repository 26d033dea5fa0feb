import asyncio
import gzip
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.domain.units import NS_PER_MS
from bot.journal.capture import CaptureError
from bot.shell import playback
from bot.shell.playback import UNREADABLE_MAX, Playback, parts, received
from tests.shell.fakemarket import SPOT, USDM
from tests.shell.wire import Clock, client, eventually, frame, get, heard, silent

T0 = 1_723_161_255_000_000_000
DEPTH = "/api/v3/depth?symbol=BTCUSDT&limit=1000"
BOTH = "/stream?streams=btcusdt@depth@100ms/btcusdt@trade"


def depth(first: int, last: int, bid: str = "100.00000000", qty: str = "1.00000000") -> bytes:
    return (
        b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255000,'
        b'"s":"BTCUSDT","U":%d,"u":%d,"b":[["%b","%b"]],"a":[]}}'
    ) % (first, last, bid.encode(), qty.encode())


def trade(n: int) -> bytes:
    return (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255000,"s":"BTCUSDT","t":%d,'
        b'"p":"100.00000000","q":"1.00000000","T":1723161255000,"m":true,"M":true}}'
    ) % n


def snapshot(last: int) -> bytes:
    return (
        b'{"lastUpdateId":%d,"bids":[["99.00000000","25.42618900"]],'
        b'"asks":[["101.00000000","2.00000000"]]}'
    ) % last


FRAMES = [
    depth(1, 5),
    trade(1),
    depth(6, 9),
    snapshot(7),
    trade(2),
    depth(10, 12, qty="3.50000000"),
    trade(3),
]


def capture_of(tmp_path: Path, frames: list[bytes], gap_ms: int = 10) -> Path:
    path = tmp_path / "capture"
    stamps = (T0 + i * gap_ms * NS_PER_MS for i in range(len(frames)))
    path.write_bytes(b"".join(b"%d %b\n" % pair for pair in zip(stamps, frames, strict=True)))
    return path


def first_lines(path: Path, count: int) -> list[bytes]:
    with gzip.open(path) as lines:
        return [line.rstrip(b"\n") for line in islice(lines, count)]


class Listener:
    """Reads a socket all the time; `log` also takes what others put into it."""

    def __init__(self, ws: Any) -> None:
        self.log: list[bytes] = []
        self.task = asyncio.create_task(self._listen(ws))

    async def _listen(self, ws: Any) -> None:
        async for message in ws:
            assert message.type == aiohttp.WSMsgType.TEXT
            self.log.append(message.data.encode())


async def ask(port: int, path: str, log: list[bytes]) -> bytes:
    """GET, and note when the answer was here."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        assert response.status == 200
        log.append(body := await response.read())
        return body


# --- Line by line --------------------------------------------------------------------------


async def test_lockstep_sends_exactly_the_next_line(tmp_path: Path) -> None:
    path = capture_of(tmp_path, FRAMES)
    played = Playback([path], SPOT, time.time_ns, lockstep=True)
    async with (
        played,
        client(played.port, BOTH) as combined,
        client(played.port, "/ws/btcusdt@trade") as raw,
    ):
        await eventually(lambda: played.sockets.stats().subscriptions == 3)
        lines = path.read_bytes().split(b"\n")[:-1]
        for line, text in zip(lines, FRAMES, strict=True):
            assert await played.step() == line
            if text is not FRAMES[3]:
                assert await frame(combined) == text
            if b"@trade" in text:
                assert await frame(raw) == parts(text)[1]
        assert not played.finished.is_set()
        assert await played.step() is None
        assert played.finished.is_set()
        assert await silent(combined)
        assert await silent(raw)
        assert played.lines == len(FRAMES)


async def test_a_request_waits_for_the_snapshot_behind_its_frames(tmp_path: Path) -> None:
    path = capture_of(tmp_path, FRAMES)
    played = Playback([path], SPOT, time.time_ns, lockstep=True)
    async with played, client(played.port, BOTH) as ws:
        await eventually(lambda: played.sockets.subscribed.is_set())
        listener = Listener(ws)
        asked = asyncio.create_task(ask(played.port, DEPTH, listener.log))
        await eventually(lambda: played.waiting == 1)
        for _ in range(3):
            await played.step()
        assert not asked.done()
        await played.step()
        assert await asked == FRAMES[3]
        await played.step()
        await eventually(lambda: len(listener.log) == 5)
        assert listener.log == FRAMES[:5]


async def test_later_requests_are_answered_from_the_kept_book(tmp_path: Path) -> None:
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns, lockstep=True)
    async with played:
        for _ in range(4):
            await played.step()
        _, book, _ = await get(played.port, DEPTH)
        assert book == {
            "lastUpdateId": 9,
            "bids": [["100.00000000", "1.00000000"], ["99.00000000", "25.42618900"]],
            "asks": [["101.00000000", "2.00000000"]],
        }
        while await played.step() is not None:
            pass
        _, book, _ = await get(played.port, DEPTH)
        assert (book["lastUpdateId"], book["bids"][0]) == (12, ["100.00000000", "3.50000000"])


async def test_a_request_in_a_gap_waits_for_the_next_book(tmp_path: Path) -> None:
    frames = [*FRAMES, depth(20, 21), depth(22, 30), snapshot(25), depth(31, 40)]
    played = Playback([capture_of(tmp_path, frames)], SPOT, time.time_ns, lockstep=True)
    async with played:
        for _ in range(len(FRAMES) + 1):
            await played.step()
        log: list[bytes] = []
        asked = asyncio.create_task(ask(played.port, DEPTH, log))
        await eventually(lambda: played.waiting == 1)
        await played.step()
        assert not asked.done()
        await played.step()
        assert await asked == snapshot(25)


async def test_a_snapshot_ahead_of_its_updates_is_kept_until_they_come(tmp_path: Path) -> None:
    frames = [depth(1, 5), snapshot(7), depth(6, 9)]
    played = Playback([capture_of(tmp_path, frames)], SPOT, time.time_ns, lockstep=True)
    async with played:
        await played.step()
        await played.step()  # the snapshot, and nobody waits
        log: list[bytes] = []
        asked = asyncio.create_task(ask(played.port, DEPTH, log))
        await eventually(lambda: played.waiting == 1)
        await played.step()
        assert json.loads(await asked)["lastUpdateId"] == 9


async def test_without_a_book_to_come_a_request_is_refused(tmp_path: Path) -> None:
    path = capture_of(tmp_path, [depth(1, 5), depth(6, 9)])
    played = Playback([path], SPOT, time.time_ns, lockstep=True)
    async with played:
        asked = asyncio.create_task(get(played.port, DEPTH))
        await eventually(lambda: played.waiting == 1)
        while await played.step() is not None:
            pass
        for answer in (await asked, await get(played.port, DEPTH)):
            assert (answer[0], answer[1]["code"]) == (503, -1001)


async def test_other_requests_are_those_of_the_venue(tmp_path: Path) -> None:
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns, lockstep=True)
    async with played:
        _, info, _ = await get(played.port, "/api/v3/exchangeInfo")
        assert info["symbols"][0]["symbol"] == "BTCUSDT"
        assert (await get(played.port, "/api/v3/depth?symbol=ETHUSDT"))[1]["code"] == -1121
        assert (await get(played.port, "/api/v3/depth", "POST"))[0] == 404


async def test_a_client_that_does_not_read_gets_its_snapshot_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "SETTLE_S", 0.01)
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns, lockstep=True)
    async with played, client(played.port, BOTH):
        asked = asyncio.create_task(ask(played.port, DEPTH, []))
        await eventually(lambda: played.waiting == 1)
        for _ in range(4):
            await played.step()
        assert await asked == FRAMES[3]


async def test_closing_releases_those_who_wait(tmp_path: Path) -> None:
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns, lockstep=True)
    async with played:
        asked = asyncio.create_task(get(played.port, DEPTH))
        await eventually(lambda: played.waiting == 1)
    assert (await asked)[0] == 503
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_depth_of_another_speed_is_the_recorded_one_under_the_asked_name(
    tmp_path: Path,
) -> None:
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns, lockstep=True)
    asked = "btcusdt@depth@1000ms/btcusdt@depth5@100ms/ethusdt@depth/btcusdt@trade"
    async with (
        played,
        client(played.port, f"/stream?streams={asked}") as other,
        client(played.port, "/ws/btcusdt@depth") as bare,
        client(played.port, BOTH) as own,
    ):
        await eventually(lambda: played.sockets.stats().subscriptions == 7)
        while await played.step() is not None:
            pass
        sent = [text for text in FRAMES if text is not FRAMES[3]]
        assert [await frame(own) for _ in sent] == sent
        renamed = [text.replace(b"@depth@100ms", b"@depth@1000ms") for text in sent]
        assert [await frame(other) for _ in sent] == renamed
        updates = [parts(text)[1] for text in sent if b"@depth" in text]
        assert [await frame(bare) for _ in updates] == updates
        assert all([await silent(ws) for ws in (other, bare, own)])


async def test_depth_recorded_at_two_speeds_is_told_apart(tmp_path: Path) -> None:
    slow = depth(1, 9).replace(b"@depth@100ms", b"@depth@1000ms")
    frames = [slow, depth(1, 5), depth(6, 9), slow]
    played = Playback([capture_of(tmp_path, frames)], SPOT, time.time_ns, lockstep=True)
    async with played:
        await played.step()
        await played.step()
        names = "btcusdt@depth@100ms/btcusdt@depth@1000ms/btcusdt@depth@0ms"
        async with client(played.port, f"/stream?streams={names}") as ws:
            await eventually(lambda: played.sockets.stats().subscriptions == 3)
            await played.step()
            await played.step()
            stood_in = slow.replace(b"@depth@1000ms", b"@depth@0ms")
            assert [await frame(ws) for _ in range(3)] == [frames[2], slow, stood_in]
            assert await silent(ws)


# --- By itself -----------------------------------------------------------------------------


async def test_the_pace_is_the_captures_times_speed(tmp_path: Path) -> None:
    clock = Clock()
    path = capture_of(tmp_path, [trade(n) for n in range(5)], gap_ms=100)
    played = Playback([path], SPOT, clock, speed=2.0)
    async with played:
        clock.now += 1_000 * NS_PER_MS  # time before the first subscription does not count
        async with client(played.port, "/ws/btcusdt@trade") as ws:
            assert (await heard(ws))["t"] == 0
            clock.now += 49 * NS_PER_MS
            assert await silent(ws)
            clock.now += 1 * NS_PER_MS
            assert (await heard(ws))["t"] == 1
            clock.now += 150 * NS_PER_MS
            assert [(await heard(ws))["t"] for _ in range(3)] == [2, 3, 4]
            await asyncio.wait_for(played.finished.wait(), 10)
            assert await silent(ws)


async def test_frames_without_a_stream_are_counted(tmp_path: Path) -> None:
    path = capture_of(tmp_path, [parts(trade(1))[1], trade(2)])
    played = Playback([path], SPOT, time.time_ns, speed=1e6)
    async with played, client(played.port, BOTH) as ws:
        assert await frame(ws) == trade(2)
        assert played.skipped == 1


async def test_a_damaged_capture_ends_the_playing_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "torn.gz"
    path.write_bytes(gzip.compress(b"%d %b\n" % (T0, trade(1)) * 3_000)[:-20])
    played = Playback([path], SPOT, time.time_ns)
    await played.start()
    waiting = asyncio.create_task(played.wait())
    async with client(played.port, BOTH):
        await asyncio.wait_for(played.finished.wait(), 10)
    with pytest.raises(CaptureError, match="ends inside"):
        await waiting
    with pytest.raises(CaptureError, match="ends inside"):
        await played.close()


async def test_what_is_no_capture_is_refused_before_anybody_can_connect(tmp_path: Path) -> None:
    for name, reason in (("missing", "does not exist"), ("text", "is not a capture")):
        path = tmp_path / name
        if name == "text":
            path.write_text("# A title\n")
        played = Playback([path], SPOT, time.time_ns)
        with pytest.raises(CaptureError, match=reason):
            await played.start()
        assert played.port == 0


@pytest.mark.parametrize("bid", ["100.00000000", "100.01000000"])  # a price of USD-M, and none
async def test_depth_of_another_market_is_not_played(tmp_path: Path, bid: str) -> None:
    frames = [depth(n, n, bid=bid) for n in range(1, UNREADABLE_MAX + 1)]
    played = Playback([capture_of(tmp_path, frames)], USDM, time.time_ns, speed=1e6)
    await played.start()
    async with client(played.port, BOTH):
        with pytest.raises(CaptureError, match="another market than binance-usdm BTCUSDT"):
            await asyncio.wait_for(played.wait(), 10)
    with pytest.raises(CaptureError):
        await played.close()


async def test_a_damaged_depth_frame_does_not_end_the_playing(tmp_path: Path) -> None:
    broken = [depth(n, n, bid="100.001") for n in range(1, UNREADABLE_MAX)]
    frames = [*broken, *FRAMES, *broken]
    played = Playback([capture_of(tmp_path, frames)], SPOT, time.time_ns, lockstep=True)
    async with played:
        while await played.step() is not None:
            pass
        assert played.lines == len(frames)


async def test_waiting_ends_with_the_playback(tmp_path: Path) -> None:
    played = Playback([capture_of(tmp_path, FRAMES)], SPOT, time.time_ns)
    await played.wait()  # not started
    async with played:
        waiting = asyncio.create_task(played.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


@pytest.mark.parametrize("instrument", [SPOT, USDM])
async def test_a_real_capture_comes_byte_for_byte_and_in_order(
    instrument: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    spot = instrument is SPOT
    lines = first_lines(request.getfixturevalue("spot_capture" if spot else "usdm_capture"), 2_000)
    path = tmp_path / "part"
    path.write_bytes(b"\n".join(lines) + b"\n")
    frames = [line.split(b" ", 1)[1] for line in lines]
    speed = "100ms" if spot else "0ms"
    streams = "/".join(f"btcusdt@{kind}" for kind in (f"depth@{speed}", "bookTicker", "trade"))
    rest = DEPTH if spot else "/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    played = Playback([path], instrument, time.time_ns, speed=1e6)
    async with played:
        early = asyncio.create_task(ask(played.port, rest, []))
        await eventually(lambda: played.waiting == 1)
        async with client(played.port, f"/stream?streams={streams}") as ws:
            listener = Listener(ws)
            snapshot = await early
            await asyncio.wait_for(played.finished.wait(), 30)
            await eventually(lambda: len(listener.log) == len(frames) - 1)
            assert snapshot in frames
            assert listener.log == [text for text in frames if text != snapshot]
        _, book, _ = await get(played.port, rest)
        places = (8, 8) if spot else (2, 3)
        assert {name: book[name] for name in rebuilt(frames, *places)} == rebuilt(frames, *places)


def rebuilt(frames: list[bytes], price_places: int, qty_places: int) -> dict[str, Any]:
    """The last book of a capture, by plain means, as the venue would show it."""
    sides: list[dict[float, float]] = [{}, {}]
    pending: list[Any] = []
    last = -1
    for text in frames:
        message = json.loads(text)
        if "lastUpdateId" in message:
            found = [{"u": message["lastUpdateId"], "b": message["bids"], "a": message["asks"]}]
            found += [delta for delta in pending if delta["u"] > message["lastUpdateId"]]
        elif "@depth" not in message["stream"]:
            continue
        elif last < 0:
            pending.append(message["data"])
            continue
        else:
            found = [message["data"]]
        for delta in found:
            last = delta["u"]
            for side, levels in zip(sides, (delta["b"], delta["a"]), strict=True):
                side |= {float(price): float(qty) for price, qty in levels}
    shown = [
        [
            [f"{price:.{price_places}f}", f"{qty:.{qty_places}f}"]
            for price, qty in sorted(side.items(), reverse=side is sides[0])
            if qty > 0
        ]
        for side in sides
    ]
    return {"lastUpdateId": last, "bids": shown[0][:1_000], "asks": shown[1][:1_000]}


async def test_ccxt_follows_a_capture(spot_capture: Path, tmp_path: Path) -> None:
    import ccxt.pro

    from tests.shell.test_venueserver import pointed

    lines = first_lines(spot_capture, 3_000)
    path = tmp_path / "part"
    path.write_bytes(b"\n".join(lines) + b"\n")
    played = Playback([path], SPOT, time.time_ns, speed=20.0)
    async with played:
        peer = pointed(ccxt.pro.binance({"enableRateLimit": False}), played.port)
        try:
            async with asyncio.timeout(90):
                await peer.load_markets()
                book = await peer.watch_order_book("BTC/USDT")
                await played.finished.wait()
                _, own, _ = await get(played.port, DEPTH)
                await eventually(lambda: book["nonce"] == own["lastUpdateId"])
        finally:
            await peer.close()
        for side in ("bids", "asks"):
            ours = [[float(p), float(q)] for p, q in own[side]][:100]
            assert [list(level) for level in book[side]][:100] == ours


def test_reading_lines() -> None:
    assert received(b"1723161255030314 {}") == 1_723_161_255_030_314_000  # microseconds
    assert parts(b'{"stream":"a@b","data":{"x":1}}') == (b"a@b", b'{"x":1}')
    assert parts(b'{"e":"trade"}') == (b"", b"")
    assert parts(b'{"stream":"a@b"}') == (b"", b"")
