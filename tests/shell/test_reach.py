"""Whether market data can be had, over real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from bot.modes.serve import new_server
from bot.shell.clock import Clock
from bot.shell.reach import unreachable
from bot.venues.binance.endpoints import endpoints
from tests.shell.fakemarket import SPOT, USDM


@pytest.mark.parametrize("instrument", [SPOT, USDM])
async def test_the_served_market_is_there(instrument: Any) -> None:
    async with new_server(instrument, Clock()) as server:
        base = f"http://127.0.0.1:{server.port}"
        where = endpoints(instrument.venue, "BTCUSDT", base=base)
        assert await unreachable(where, 5.0) == ""
        server.refuse(True)
        assert "(HTTP 503)" in await unreachable(where, 5.0)


@asynccontextmanager
async def answering(book: web.Response | None, sockets: bool) -> AsyncIterator[str]:
    """A server whose book and sockets are as told; None keeps the asker waiting."""

    async def respond(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/depth"):
            if book is None:
                await asyncio.sleep(60)
            assert book is not None
            return book
        if not sockets:
            return web.Response(status=404)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            pass
        return ws

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("book", "sockets", "words"),
    [
        (web.Response(text="{}"), True, "something else than a book"),
        (web.Response(status=301, headers={"Location": "/elsewhere"}), True, "(HTTP 301)"),
        (None, True, "gives no order book within 0.3 s"),
        (web.Response(text='{"lastUpdateId":1,"bids":[],"asks":[]}'), False, "the market data"),
    ],
)
async def test_what_is_wrong_is_said(book: web.Response | None, sockets: bool, words: str) -> None:
    async with answering(book, sockets) as base:
        where = endpoints("binance-usdm", "BTCUSDT", base=base)
        assert words in await unreachable(where, 0.3)


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    where = endpoints("binance-spot", "BTCUSDT", base=f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port} cannot be reached" in await unreachable(where, 5.0)
