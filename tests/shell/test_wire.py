"""The account's line over real sockets: what a failure proves, the gate, and the stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from bot.domain.decisions import Place
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S, Side
from bot.shell.clock import Clock
from bot.shell.peer import Access, Credentials
from bot.shell.wire import CallFailed, NotSent, StreamLost, Wire
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Verdict
from tests.shell.wire import eventually

USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
PREFIX = "mm0a1b2c"
PLACE = Place(f"{PREFIX}-1", Side.BUY, 600_000, 10, 0)

Answer = Callable[[web.Request], Any]


class Server:
    """Answers every request as told, and holds one private stream."""

    def __init__(self) -> None:
        self.answer: Answer = lambda request: web.json_response({"ok": True})
        self.answer_key: web.Response | None = None  # to the next request about a key
        self.requests: list[tuple[str, str, str]] = []  # method, path, query or body
        self.sockets: list[web.WebSocketResponse] = []
        self.paths: list[str] = []
        self.port = 0

    async def respond(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.stream(request)
        body = (await request.read()).decode()
        self.requests.append((request.method, request.path, request.query_string or body))
        if request.path.endswith("listenKey"):
            answer, self.answer_key = self.answer_key, None
            return answer or web.json_response({"listenKey": "k" * 64})
        answer = self.answer(request)
        if asyncio.iscoroutine(answer):
            answer = await answer
        assert isinstance(answer, web.StreamResponse)
        return answer

    async def stream(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.sockets.append(ws)
        self.paths.append(request.path_qs)
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                asked = json.loads(message.data)
                if asked.get("method") == "userDataStream.subscribe.signature":
                    result = {"subscriptionId": 0}
                    await ws.send_json({"id": asked["id"], "status": 200, "result": result})
        return ws


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.respond)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = int(runner.addresses[0][1])
    try:
        yield server
    finally:
        for ws in server.sockets:
            await ws.close()
        await runner.cleanup()


@asynccontextmanager
async def wired(
    server: Server, instrument: Instrument = USDM, timeout_ms: int = 2_000, **told: Any
) -> AsyncIterator[Wire]:
    where = f"127.0.0.1:{server.port}"
    access = Access(
        venue=instrument.venue,
        world="demo",
        hosts=(where,),
        credentials=Credentials("a" * 64, "b" * 64),
        base=f"http://{where}",
    )
    codec = order_codec(instrument, PREFIX)
    wire = Wire(access, codec, Clock(), timeout_ms=timeout_ms, **told)
    try:
        yield wire
    finally:
        await wire.close()


def placement(instrument: Instrument = USDM) -> Call:
    return order_codec(instrument, PREFIX).place(PLACE)


async def failure(wire: Wire, call: Call) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        await wire.call(call)
    return caught.value


async def test_a_call_is_signed_and_its_body_comes_back() -> None:
    used: list[int] = []
    sent: list[str] = []
    async with serving() as server:
        headers = {"X-MBX-USED-WEIGHT-1M": "17"}
        server.answer = lambda request: web.json_response({"orderId": 7}, headers=headers)
        told = {"used": used.append, "sent": lambda method, at: sent.append(method)}
        async with wired(server, **told) as wire:
            assert await wire.call(placement()) == {"orderId": 7}
        method, path, query = server.requests[0]
        assert (method, path) == ("POST", "/fapi/v1/order")
        for part in (
            "price=60000",
            "quantity=0.01",
            "timeInForce=GTX",
            "recvWindow=",
            "signature=",
        ):
            assert part in query
    assert used == [17]
    assert sent == ["fapiPrivatePostOrder"]


async def test_requests_are_dated_by_our_clock_and_its_offset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("time.time", lambda: 1.0)  # a step of the wall clock is not seen
    async with serving() as server, wired(server) as wire:
        for offset_ms in (0, 3_000, -3_000):
            wire.set_offset(offset_ms)
            await wire.call(placement())
            dated = int(server.requests[-1][2].partition("timestamp=")[2].partition("&")[0])
            assert abs(clock.now() // 1_000_000 - offset_ms - dated) < 500


async def test_a_shut_gate_writes_nothing() -> None:
    async with serving() as server, wired(server) as wire:
        for _ in range(2):  # on a new connection, and on one that is kept
            with pytest.raises(NotSent) as caught:
                await wire.call(placement(), lambda: False)
            assert caught.value.refusal.verdict is Verdict.REJECTED
            await wire.call(placement(), lambda: True)
        assert [path for _, path, _ in server.requests] == ["/fapi/v1/order"] * 2


async def test_the_gate_is_asked_behind_every_wait() -> None:
    """Shut while the call waits for a free connection: it does not leave."""
    async with serving() as server, wired(server) as wire:
        release = asyncio.Event()

        async def slow(request: web.Request) -> web.Response:
            await release.wait()
            return web.json_response({})

        server.answer = slow
        busy = [asyncio.create_task(wire.call(placement())) for _ in range(32)]
        await eventually(lambda: len(server.requests) == 32)
        is_open = True
        waits = asyncio.create_task(wire.call(placement(), lambda: is_open))
        await asyncio.sleep(0.02)
        is_open = False
        release.set()
        await asyncio.gather(*busy)
        with pytest.raises(NotSent):
            await waits
        assert len(server.requests) == 32


@pytest.mark.parametrize(
    ("status", "body", "verdict", "reason"),
    [
        (400, {"code": -2019, "msg": "Margin is insufficient."}, Verdict.REJECTED, "balance"),
        (400, {"code": -5022, "msg": "Post Only order will be rejected"}, Verdict.REJECTED, "post"),
        (400, {"code": -2013, "msg": "Order does not exist."}, Verdict.ABSENT, "absent"),
        (400, {"code": -9999, "msg": "?"}, Verdict.UNKNOWN, ""),
        (503, {"code": -1007, "msg": "Timeout waiting for response"}, Verdict.UNKNOWN, ""),
        (503, "Service Unavailable", Verdict.UNKNOWN, ""),
        (502, "<html>bad gateway</html>", Verdict.UNKNOWN, ""),
        (401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions"}, Verdict.REJECTED, ""),
    ],
)
async def test_an_error_proves_what_its_code_proves(
    status: int, body: Any, verdict: Verdict, reason: str
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    async with serving() as server, wired(server) as wire:
        server.answer = lambda request: web.Response(
            status=status, text=text, content_type="application/json"
        )
        failed = await failure(wire, placement())
        assert failed.refusal.verdict is verdict
        assert reason in failed.refusal.reason
        assert failed.code == (body["code"] if isinstance(body, dict) else None)
        assert failed.text == (body["msg"] if isinstance(body, dict) else text)
        assert len(server.requests) == 1


async def test_a_limit_says_for_how_long() -> None:
    async with serving() as server, wired(server) as wire:
        server.answer = lambda request: web.Response(
            status=418, text='{"code":-1003,"msg":"banned"}', headers={"Retry-After": "77"}
        )
        failed = await failure(wire, placement())
        assert failed.refusal.banned
        assert failed.refusal.limited_s == 77.0


async def test_no_answer_is_unknown_and_nothing_is_sent_twice() -> None:
    async with serving() as server, wired(server, timeout_ms=200) as wire:

        async def never(request: web.Request) -> web.Response:
            await asyncio.sleep(1.0)
            return web.json_response({})

        def drop(request: web.Request) -> web.Response:
            assert request.transport is not None
            request.transport.abort()
            return web.json_response({})

        for answer in (never, drop):
            server.requests.clear()
            server.answer = answer
            amend = Call("fapiPrivatePutOrder", {"symbol": "BTCUSDT"}, placement().priority)
            for call in (placement(), amend):
                failed = await failure(wire, call)
                assert not isinstance(failed, NotSent)
                assert failed.refusal.verdict is Verdict.UNKNOWN
            assert len(server.requests) == 2


async def test_what_never_left_is_proved_to_have_done_nothing() -> None:
    async with serving() as server:
        port = server.port
    server.port = port  # nobody listens there any more
    async with wired(server) as wire:
        failed = await failure(wire, placement())
        assert isinstance(failed, NotSent)
        assert failed.refusal.verdict is Verdict.REJECTED


async def test_a_body_that_is_no_json_reaches_the_caller() -> None:
    async with serving() as server, wired(server) as wire:
        server.answer = lambda request: web.Response(text='{"orderId": 7, "sta')
        body = await wire.call(placement())
        with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
            order_codec(USDM, PREFIX).read_placed(body)


async def test_times_are_signed_with_the_offset() -> None:
    async with serving() as server, wired(server) as wire:
        await wire.call(placement())
        wire.set_offset(60_000)
        await wire.call(placement())
        first, second = (
            int(query.partition("timestamp=")[2].partition("&")[0])
            for _, _, query in server.requests
        )
        assert 55_000 < first - second < 60_001


async def test_a_step_of_the_machine_s_clock_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    # F58: the offset was measured against a clock that does not step
    truth = time.time_ns
    async with serving() as server, wired(server) as wire:
        await wire.call(placement())
        monkeypatch.setattr(time, "time_ns", lambda: truth() + 3_600 * NS_PER_S)
        await wire.call(placement())
        first, second = (
            int(query.partition("timestamp=")[2].partition("&")[0])
            for _, _, query in server.requests
        )
        assert 0 <= second - first < 5_000


# --- the private stream -----------------------------------------------------------------------


@pytest.mark.parametrize("instrument", [USDM, SPOT])
async def test_every_message_is_heard_as_it_is(instrument: Instrument) -> None:
    heard: list[Mapping[str, Any]] = []
    opened = asyncio.Event()
    async with serving() as server, wired(server, instrument) as wire:
        listening = asyncio.create_task(wire.listen(heard.append, opened.set))
        await asyncio.wait_for(opened.wait(), 5.0)
        told = [{"e": "ORDER_TRADE_UPDATE", "o": {"c": str(n)}} for n in range(3)]
        for one in told:
            await server.sockets[0].send_json(one)
        await eventually(lambda: len(heard) == 3)
        assert heard == told
        await server.sockets[0].close()
        with pytest.raises(StreamLost):
            await listening


async def test_a_stream_comes_back_with_a_key_of_its_own() -> None:
    async with serving() as server, wired(server) as wire:
        for n in range(3):
            opened = asyncio.Event()
            listening = asyncio.create_task(wire.listen(lambda message: None, opened.set))
            await asyncio.wait_for(opened.wait(), 5.0)
            wire.end_stream("enough")
            with pytest.raises(StreamLost, match="enough"):
                await listening
            assert len(server.paths) == n + 1
        keys = [path for _, path, _ in server.requests if path.endswith("listenKey")]
        assert len(keys) == 3
        assert all("k" * 64 in path for path in server.paths)


async def test_a_streams_key_is_extended_while_it_is_heard() -> None:
    async with serving() as server, wired(server, extend_s=0.02) as wire:
        opened = asyncio.Event()
        listening = asyncio.create_task(wire.listen(lambda message: None, opened.set))
        await asyncio.wait_for(opened.wait(), 5.0)

        def extensions() -> int:
            return [method for method, *_ in server.requests].count("PUT")

        await eventually(lambda: extensions() >= 3)
        server.answer_key = web.json_response({"code": -1000, "msg": "Unknown."}, status=500)
        await eventually(lambda: server.answer_key is None)
        before = extensions()
        await eventually(lambda: extensions() > before)  # nobody knows: it is tried again
        gone = {"code": -1125, "msg": "This listenKey does not exist."}
        server.answer_key = web.json_response(gone, status=400)
        with pytest.raises(StreamLost, match="its key is not extended"):
            await listening
        ended = extensions()
        await asyncio.sleep(0.1)
        assert extensions() == ended


async def test_a_spot_stream_has_no_key_to_extend() -> None:
    async with serving() as server, wired(server, SPOT, extend_s=0.01) as wire:
        opened = asyncio.Event()
        listening = asyncio.create_task(wire.listen(lambda message: None, opened.set))
        await asyncio.wait_for(opened.wait(), 5.0)
        await asyncio.sleep(0.1)
        assert server.requests == []
        assert not listening.done()
        wire.end_stream("enough")
        with pytest.raises(StreamLost):
            await listening


async def test_a_stream_that_cannot_be_had_is_lost() -> None:
    async with serving() as server:
        pass
    async with wired(server) as wire:
        with pytest.raises(StreamLost):
            await wire.listen(lambda message: None, lambda: None)


async def test_nothing_shows_the_secret() -> None:
    async with serving() as server, wired(server) as wire:
        server.answer = lambda request: web.Response(status=500, text="x")
        failed = await failure(wire, placement())
        assert "b" * 64 not in f"{wire!r} {failed} {failed!r} {wire._access!r}"
