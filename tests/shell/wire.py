"""What tests of sockets share: waiting for conditions, reading frames, a client that sleeps."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 10.0


class Clock:
    """A wall clock in ns that moves only when told."""

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds, and fail after a while."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (anything may be waited for)
            await asyncio.sleep(0.001)


@asynccontextmanager
async def client(port: int, path: str, **options: Any) -> AsyncIterator[Any]:
    """An open web socket."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}{path}", **options) as ws,
    ):
        yield ws


async def frame(ws: Any) -> bytes:
    """The next text frame."""
    message = await ws.receive(PATIENCE_S)
    assert message.type == aiohttp.WSMsgType.TEXT, message
    return bytes(message.data.encode())


async def heard(ws: Any) -> Any:
    """The next text frame, decoded."""
    return json.loads(await frame(ws))


async def silent(ws: Any) -> bool:
    """Whether nothing comes before the answer to a question asked now."""
    await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 99})
    message = await heard(ws)
    return isinstance(message, dict) and message.get("id") == 99


async def get(port: int, path: str, method: str = "GET") -> tuple[int, Any, Any]:
    """Status, decoded body and headers of a REST request."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}") as response,
    ):
        text = await response.text()
        kind = response.content_type
        body = json.loads(text) if kind == "application/json" else text
        return response.status, body, response.headers


async def sleeper(port: int, path: str) -> asyncio.StreamWriter:
    """A web socket client that never reads."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    key = base64.b64encode(b"0123456789abcdef").decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await writer.drain()
    return writer


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))
