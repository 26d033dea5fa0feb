"""The health pages, over real sockets on loopback."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from aiohttp import ClientSession, ClientTimeout

from bot.core.triggers import Severity
from bot.domain.view import QUOTING
from bot.ops import web
from bot.ops.metrics import Metrics
from bot.ops.web import Readiness, Web, WebError, listen, loopback_address, readiness
from tests.ops.test_rows import BTC, VIEW

WAIT_S = 20.0


class Bot:
    """What the pages ask; tests change it."""

    def __init__(self) -> None:
        self.readiness = readiness(VIEW)
        self.health: dict[str, object] = {"uptime_s": Decimal("1.5")}
        self.metrics = Metrics(BTC)

    def page(self) -> Web:
        return Web(
            health=lambda: self.health,
            ready=lambda: self.readiness,
            exposition=self.metrics.exposition,
        )


@pytest.fixture
def bot() -> Bot:
    return Bot()


@pytest.fixture
async def port(bot: Bot) -> AsyncIterator[int]:
    page = bot.page()
    yield await page.start("127.0.0.1", 0)
    await page.stop()


async def exchange(port: int, request: str, address: str = "127.0.0.1") -> bytes:
    """Bytes of the answer to exactly these bytes."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(request.encode())
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()


async def ask(
    port: int, path: str, method: str = "GET", host: str = "localhost"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    request = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    head, _, body = (await exchange(port, request)).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


async def test_alive(port: int) -> None:
    status, headers, body = await ask(port, "/healthz")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {"status": "alive", "uptime_s": "1.5"}


async def test_ready(port: int) -> None:
    status, _, body = await ask(port, "/readyz")
    assert status == 200
    assert json.loads(body) == {"ready": True, "level": "ACTIVE", "causes": [], "reasons": []}


async def test_not_ready_says_why(port: int, bot: Bot) -> None:
    view = msgspec.structs.replace(
        VIEW, level="PAUSED", causes=("depth", "stale"), trusted=False, distrust="gap"
    )
    bot.readiness = readiness(view, ["the feed is not connected"])
    status, _, body = await ask(port, "/readyz")
    assert status == 503
    assert json.loads(body) == {
        "ready": False,
        "level": "PAUSED",
        "causes": ["depth", "stale"],
        "reasons": [
            "level PAUSED: depth, stale",
            "book not trusted: gap",
            "the feed is not connected",
        ],
    }


def test_an_engine_that_is_not_built_yet() -> None:
    assert readiness(None) == Readiness("", (), ("starting",))
    assert not readiness(None).ready


def test_obstacles_are_reasons() -> None:
    view = msgspec.structs.replace(VIEW, obstacles=("reconcile", "clock"))
    assert readiness(view).reasons == ("obstacle: reconcile", "obstacle: clock")


@pytest.mark.parametrize("level", Severity)
def test_quoting_is_allowed_below_paused(level: Severity) -> None:
    view = msgspec.structs.replace(VIEW, level=level.name)
    assert readiness(view).ready == (level < Severity.PAUSED) == (level.name in QUOTING)


async def test_metrics(port: int) -> None:
    status, headers, body = await ask(port, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"mmbot_decisions_total 0.0" in body


@pytest.mark.parametrize("path", ["/", "/healthz/", "/api/kill", "/metrics/../x", "/%00"])
async def test_no_other_page(port: int, path: str) -> None:
    status, headers, body = await ask(port, path)
    assert status == 404
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == {"error": "there are only /healthz, /readyz, /metrics"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_get(port: int, method: str) -> None:
    status, headers, body = await ask(port, "/healthz", method)
    assert status == 405
    assert headers["Allow"] == "GET"
    assert json.loads(body) == {"error": "pages are for reading: use GET"}


async def test_a_query_is_ignored(port: int) -> None:
    assert (await ask(port, "/healthz?a=b"))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80"],
)
async def test_loopback_names(port: int, host: str) -> None:
    assert (await ask(port, "/healthz", host=host))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8787",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1:80@evil.example",
        "192.168.1.1",
        "0.0.0.0",  # noqa: S104 - to be refused
        "[::]",
        "[::1",
        "[::1]evil",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "",
        "localhost, evil.example",
    ],
)
async def test_other_names_are_refused(port: int, host: str) -> None:
    status, _, body = await ask(port, "/healthz", host=host)
    assert status in (400, 403)
    assert b"alive" not in body


async def test_exactly_one_host(port: int) -> None:
    none = await exchange(port, "GET /healthz HTTP/1.0\r\n\r\n")
    assert b" 403 " in none.split(b"\r\n")[0]
    two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert b" 200 " not in (await exchange(port, two)).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n",
        "no request at all\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + "y" * 20_000 + "\r\n\r\n",
    ],
)
async def test_no_answer_names_the_program(port: int, request_text: str) -> None:
    answer = await exchange(port, request_text)
    assert answer.startswith(b"HTTP/1.")
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"server:" not in head
    assert b"aiohttp" not in answer
    assert b"python" not in answer.lower()


async def test_a_fault_of_ours_shows_no_traceback(
    bot: Bot, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    bot.readiness = None  # type: ignore[assignment]
    status, headers, body = await ask(port, "/readyz")
    assert status == 500
    assert b"NoneType" not in body
    assert "Server" not in headers
    assert "AttributeError" in caplog.text  # but the log has it
    assert (await ask(port, "/healthz"))[0] == 200


async def test_requests_are_not_logged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await ask(port, "/healthz")
    assert "healthz" not in caplog.text


async def test_a_client_that_keeps_its_connection(bot: Bot) -> None:
    page = bot.page()
    port = await page.start("localhost", 0)
    assert repr(page) == f"<Web at localhost:{port}>"
    async with ClientSession(timeout=ClientTimeout(WAIT_S)) as session:
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                assert await answer.json() == {"status": "alive", "uptime_s": "1.5"}
        async with asyncio.timeout(WAIT_S):
            await page.stop()
            await page.stop()
    assert repr(page) == "<Web stopped>"
    with pytest.raises(ConnectionError):
        await exchange(port, "GET /healthz HTTP/1.1\r\n\r\n")


async def test_it_starts_again(bot: Bot) -> None:
    page = bot.page()
    port = await page.start("127.0.0.1", 0)
    await page.stop()
    assert await page.start("127.0.0.1", port) == port
    assert (await ask(port, "/healthz"))[0] == 200
    await page.stop()


async def test_a_taken_port(bot: Bot, port: int) -> None:
    page = bot.page()
    with pytest.raises(WebError) as refused:
        await page.start("127.0.0.1", port)
    assert str(refused.value) == (
        f"127.0.0.1:{port} is taken by another program: choose another port"
    )
    await page.stop()
    assert (await ask(port, "/healthz"))[0] == 200


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.0.1", "8.8.8.8", "example.org", "127.1", "::ffff:127.0.0.1"],  # noqa: S104 - to be refused
)
async def test_only_loopback_is_bound(bot: Bot, host: str) -> None:
    with pytest.raises(ValueError, match="is not a loopback address"):
        await bot.page().start(host, 0)


def test_loopback_addresses() -> None:
    assert [loopback_address(h) for h in ("localhost", "LocalHost", "127.0.0.2", "::1")] == [
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.2",
        "::1",
    ]


@pytest.mark.parametrize("port", [-1, 65_536])
async def test_a_port_that_is_none(bot: Bot, port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} is not between 0 and 65535"):
        await bot.page().start("127.0.0.1", port)


async def test_connections_are_bounded(
    bot: Bot, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "CONNECTIONS_MAX", 3)
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    try:
        with pytest.raises(ConnectionError):
            await exchange_until_refused(port)
    finally:
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                assert (await ask(port, "/healthz"))[0] == 200
            except (ConnectionError, ValueError):
                continue  # the idle ones are still being taken down
            break
    gc.collect()  # a task that failed unseen tells when it goes
    assert faults == []


async def exchange_until_refused(port: int) -> None:
    """One more connection; a reset may be seen as an end without any answer."""
    if await exchange(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") == b"":
        raise ConnectionError


async def test_a_socket_had_earlier_is_served_and_closed(bot: Bot) -> None:
    listener = listen("localhost", 0)
    with pytest.raises(WebError, match=rf"^127.0.0.1:{listener.getsockname()[1]} is taken"):
        listen("127.0.0.1", listener.getsockname()[1])
    page = bot.page()
    bound = await page.serve(listener)
    assert bound == listener.getsockname()[1]
    assert repr(page) == f"<Web at 127.0.0.1:{bound}>"
    assert (await ask(bound, "/healthz"))[0] == 200
    await page.stop()
    assert listener.fileno() == -1
    listen("127.0.0.1", bound).close()


@pytest.mark.parametrize(("host", "port"), [("0.0.0.0", 0), ("127.0.0.1", -1), ("::1", 65_536)])  # noqa: S104
def test_no_socket_for_others(host: str, port: int) -> None:
    with pytest.raises(ValueError, match="is not"):
        listen(host, port)
