import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell import venuesockets
from bot.shell.venuesockets import Pulse, VenueSockets
from bot.venues.binance.streams import Session, session_of
from tests.shell.wire import (
    Clock,
    client,
    descriptors,
    eventually,
    frame,
    get,
    heard,
    silent,
    sleeper,
)

PULSE = Pulse(20 * NS_PER_S, 60 * NS_PER_S, 5)
X = "x@trade"


def opened(path: str, query: Mapping[str, str]) -> Session | None:
    return session_of("binance-spot", path, query)


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"hello {request.path}")


@asynccontextmanager
async def listening(clock: Clock, **options: Any) -> AsyncIterator[VenueSockets]:
    sockets = VenueSockets(
        session_of=opened,
        respond=hello,
        clock=clock,
        host="127.0.0.1",
        port=0,
        **{"pulse": PULSE, **options},
    )
    await sockets.start()
    try:
        yield sockets
    finally:
        await sockets.close()


async def test_messages_go_to_subscribers_in_the_form_of_their_path() -> None:
    async with (
        listening(Clock()) as sockets,
        client(sockets.port, f"/ws/{X}") as raw,
        client(sockets.port, f"/stream?streams={X}/y@trade") as combined,
        client(sockets.port, "/ws") as other,
    ):
        await eventually(lambda: sockets.stats().subscriptions == 3)
        assert sockets.subscribed.is_set()
        assert (sockets.wants(X), sockets.wants("z@trade")) == (True, False)
        sockets.publish(X, b'{"n":1}')
        sockets.publish("y@trade", b'{"n":2}')
        sockets.publish("z@trade", b'{"n":3}')
        assert await frame(raw) == b'{"n":1}'
        assert await frame(combined) == b'{"stream":"x@trade","data":{"n":1}}'
        assert await frame(combined) == b'{"stream":"y@trade","data":{"n":2}}'
        assert await silent(raw)
        assert await silent(other)


async def test_subscriptions_change_while_connected() -> None:
    async with listening(Clock()) as sockets, client(sockets.port, "/ws") as ws:
        before = sockets.changed
        await ws.send_json({"method": "SUBSCRIBE", "params": [X], "id": 1})
        assert await heard(ws) == {"result": None, "id": 1}
        assert sockets.changed > before
        sockets.publish(X, b"{}")
        assert await frame(ws) == b"{}"
        await ws.send_json({"method": "UNSUBSCRIBE", "params": [X], "id": 2})
        assert await heard(ws) == {"result": None, "id": 2}
        assert sockets.streams() == []
        await ws.close()
        await eventually(lambda: sockets.stats().clients == 0)


async def test_a_dropped_client_leaves_the_index() -> None:
    async with listening(Clock()) as sockets:
        async with client(sockets.port, f"/ws/{X}"):
            await eventually(lambda: sockets.wants(X))
        await eventually(lambda: not sockets.wants(X))
        assert sockets.stats().clients == 0


async def test_requests_that_are_no_web_socket_are_answered() -> None:
    async with listening(Clock()) as sockets:
        assert (await get(sockets.port, "/api/any"))[:2] == (200, "hello /api/any")
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            async with client(sockets.port, "/elsewhere"):
                pass


async def test_refusing_everything() -> None:
    async with listening(Clock()) as sockets:
        sockets.refuse(True)
        assert (await get(sockets.port, "/api/any"))[0] == 503
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with client(sockets.port, "/ws"):
                pass
        sockets.refuse(False)
        assert (await get(sockets.port, "/api/any"))[0] == 200


async def test_too_many_clients_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venuesockets, "CLIENTS_MAX", 1)
    async with listening(Clock()) as sockets, client(sockets.port, "/ws"):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with client(sockets.port, "/ws"):
                pass


async def test_a_cut_is_abrupt() -> None:
    async with listening(Clock()) as sockets, client(sockets.port, f"/ws/{X}") as ws:
        await eventually(lambda: sockets.wants(X))
        sockets.cut()
        message = await ws.receive(10)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert ws.close_code == 1006
        await eventually(lambda: sockets.stats().clients == 0)


async def test_muted_it_neither_speaks_nor_pongs() -> None:
    clock = Clock()
    async with (
        listening(clock) as sockets,
        client(sockets.port, f"/ws/{X}", autoping=False) as ws,
    ):
        await eventually(lambda: sockets.wants(X))
        sockets.mute(5)
        sockets.publish(X, b'{"n":1}')
        await ws.ping(b"unheard")
        await ws.send_json({"method": "SUBSCRIBE", "params": ["y@trade"], "id": 1})
        await eventually(lambda: sockets.wants("y@trade"))  # obeyed, in silence
        clock.now += 4 * NS_PER_S
        sockets.publish(X, b'{"n":2}')
        assert sockets.stats().lost == 2
        sockets.unmute()
        await ws.ping(b"heard")
        message = await ws.receive(10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"heard")
        sockets.mute(5)
        clock.now += 5 * NS_PER_S
        sockets.publish(X, b'{"n":3}')
        assert await frame(ws) == b'{"n":3}'


async def test_held_messages_burst_in_order() -> None:
    clock = Clock()
    async with listening(clock) as sockets, client(sockets.port, f"/ws/{X}") as ws:
        await eventually(lambda: sockets.wants(X))
        sockets.hold(2)
        for n in range(3):
            sockets.publish(X, b"%d" % n)
        sockets.tend(clock.now + 2 * NS_PER_S - 1)
        assert await silent(ws)
        clock.now += 2 * NS_PER_S
        sockets.publish(X, b"3")  # behind the others although it is due at once
        sockets.tend(clock.now)
        assert [await frame(ws) for _ in range(4)] == [b"0", b"1", b"2", b"3"]
        sockets.publish(X, b"4")
        assert await frame(ws) == b"4"


async def test_messages_age_one_by_one() -> None:
    clock = Clock()
    async with listening(clock) as sockets, client(sockets.port, f"/ws/{X}") as ws:
        await eventually(lambda: sockets.wants(X))
        sockets.age(10)
        for n in range(4):
            sockets.publish(X, b"%d" % n)
        sockets.tend(clock.now + 9 * NS_PER_MS)
        assert await silent(ws)
        sockets.tend(clock.now + 20 * NS_PER_MS)
        assert [await frame(ws) for _ in range(2)] == [b"0", b"1"]
        assert await silent(ws)
        sockets.age(0)
        sockets.tend(clock.now)
        assert [await frame(ws) for _ in range(2)] == [b"2", b"3"]


async def test_delayed_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venuesockets, "DELAYED_MAX", 3)
    clock = Clock()
    async with listening(clock) as sockets, client(sockets.port, f"/ws/{X}") as ws:
        await eventually(lambda: sockets.wants(X))
        sockets.hold(1)
        for n in range(5):
            sockets.publish(X, b"%d" % n)
        sockets.tend(clock.now + NS_PER_S)
        assert [await frame(ws) for _ in range(3)] == [b"2", b"3", b"4"]
        assert sockets.stats().lost == 2


async def test_pings_have_a_beat_and_who_never_pongs_is_dropped() -> None:
    clock = Clock()
    async with (
        listening(clock) as sockets,
        client(sockets.port, "/ws", autoping=False) as quiet,
        client(sockets.port, "/ws", autoping=False) as polite,
    ):
        await eventually(lambda: sockets.stats().clients == 2)
        sockets.tend(clock.now + PULSE.ping_every - 1)
        assert await silent(polite)
        for _ in range(3):
            clock.now += PULSE.ping_every
            sockets.tend(clock.now)
            assert (await quiet.receive(10)).type == aiohttp.WSMsgType.PING
            message = await polite.receive(10)
            assert message.type == aiohttp.WSMsgType.PING
            await polite.pong(message.data)
            assert await silent(polite)  # the pong was read
        clock.now += PULSE.ping_every
        sockets.tend(clock.now)
        await eventually(lambda: sockets.stats().clients == 1)
        assert sockets.stats().cut == 1


async def test_a_talkative_client_is_closed() -> None:
    async with listening(Clock()) as sockets, client(sockets.port, "/ws") as ws:
        for n in range(PULSE.inbound_per_s + 1):
            await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": n})
        while (message := await ws.receive(10)).type == aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert sockets.stats().cut == 1


async def test_a_client_that_does_not_read_is_dropped_and_delays_nobody() -> None:
    text = b'"' + b"x" * 10_000 + b'"'
    async with (
        listening(Clock(), queued_max=200) as sockets,
        client(sockets.port, f"/ws/{X}") as awake,
    ):
        asleep = await sleeper(sockets.port, f"/ws/{X}")
        await eventually(lambda: sockets.stats().subscriptions == 2)
        sent = 0
        while sockets.stats().cut == 0:
            sockets.publish(X, text)
            sent += 1
            assert sent < 5_000
            assert await frame(awake) == text
        await eventually(lambda: sockets.stats().clients == 1)
        assert sockets.stats().queued_most <= 200
        sockets.publish(X, b"{}")
        assert await frame(awake) == b"{}"
        asleep.close()


async def test_settled_means_read() -> None:
    async with (
        listening(Clock()) as sockets,
        client(sockets.port, f"/ws/{X}", autoping=False) as ws,
    ):
        await eventually(lambda: sockets.wants(X))
        sockets.publish(X, b"{}")
        settled = asyncio.create_task(sockets.settled(10))
        assert await frame(ws) == b"{}"
        message = await ws.receive(10)
        assert message.type == aiohttp.WSMsgType.PING
        assert not settled.done()
        await ws.pong(message.data)
        await settled
        await sockets.settled(0.01)  # nobody answers: it goes on all the same


async def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sockets = VenueSockets(
            session_of=opened,
            respond=hello,
            pulse=PULSE,
            clock=Clock(),
            host="127.0.0.1",
            port=taken.getsockname()[1],
        )
        with pytest.raises(OSError, match="address already in use"):
            await sockets.start()


async def test_a_hundred_connections_leave_nothing_behind() -> None:
    async with listening(Clock()) as sockets:
        async with client(sockets.port, f"/ws/{X}"):
            pass  # whatever is made once is made now
        await eventually(lambda: sockets.stats().clients == 0)
        before, tasks = descriptors(), len(asyncio.all_tasks())
        for _ in range(100):
            async with client(sockets.port, f"/ws/{X}") as ws:
                await eventually(lambda: sockets.wants(X))
                sockets.publish(X, b"{}")
                assert await frame(ws) == b"{}"
        await eventually(lambda: sockets.stats().clients == 0)
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)
        await eventually(lambda: descriptors() == before)
        assert sockets.stats().sent == 100
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_close_says_goodbye() -> None:
    async with listening(Clock()) as sockets, client(sockets.port, f"/ws/{X}") as ws:
        await eventually(lambda: sockets.wants(X))
        reading = asyncio.create_task(ws.receive(10))
        await sockets.close()
        message = await reading
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert asyncio.all_tasks() == {asyncio.current_task()}
