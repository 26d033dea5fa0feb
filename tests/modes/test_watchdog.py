"""`mmbot watchdog` as a process, beside a bot that only beats, over a venue's REST paths."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from bot.cli import app
from bot.modes.account import account_name
from bot.modes.settings import load
from bot.modes.watchdog import Watch
from bot.shell.heartbeat import State, bot_path, pid_namespace, read_beat, watchdog_path
from bot.shell.peer import Credentials
from tests.shell.test_watchdog import BOT
from tests.shell.wire import eventually

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "k" * 64, "s" * 64
KEYS = Credentials(KEY, SECRET)
OURS = [f"mm0a1b2c-{number}" for number in range(1, 6)]
THEIRS = ["web_0123456789"]
OPEN = {"binance-spot": "/api/v3/openOrders", "binance-usdm": "/fapi/v1/openOrders"}
ORDER = {"binance-spot": "/api/v3/order", "binance-usdm": "/fapi/v1/order"}
TIME = {"binance-spot": "/api/v3/time", "binance-usdm": "/fapi/v1/time"}
START_S = 40.0  # ccxt alone takes seconds to import on a busy machine


class Venue:
    """As much of a venue as a watchdog talks to, its clock `ahead_ms` of ours."""

    def __init__(self, venue: str, ahead_ms: int = 0) -> None:
        self.venue = venue
        self.ahead_ms = ahead_ms
        self.open = OURS + THEIRS
        self.reads = 0
        self.emptied_at = 0.0
        self.port = 0
        self.down = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Venue"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.respond)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        yield self
        await runner.cleanup()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    async def respond(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            return web.json_response({"code": -1001, "msg": "Internal error"}, status=503)
        path = request.path
        if path == TIME[self.venue]:
            return web.json_response({"serverTime": self.now_ms()})
        said = dict(request.query) | {k: str(v) for k, v in (await request.post()).items()}
        if request.headers.get("X-MBX-APIKEY") != KEY or "signature" not in said:
            return web.json_response({"code": -2014, "msg": "API-key format invalid."}, status=401)
        if abs(self.now_ms() - int(said["timestamp"])) > 1_000:
            return web.json_response({"code": -1021, "msg": "outside of recvWindow"}, status=400)
        if path == OPEN[self.venue] and request.method == "GET":
            self.reads += 1
            return web.json_response([self.order(one, "NEW") for one in self.open])
        if path == ORDER[self.venue] and request.method == "DELETE":
            return self.cancelled(said["origClientOrderId"])
        return web.json_response({"code": -1100, "msg": path}, status=400)

    def cancelled(self, order_id: str) -> web.StreamResponse:
        if order_id not in self.open:
            return web.json_response({"code": -2011, "msg": "Unknown order sent."}, status=400)
        self.open.remove(order_id)
        if self.open == THEIRS:
            self.emptied_at = time.monotonic()
        return web.json_response(self.order(order_id, "CANCELED"))

    def order(self, order_id: str, status: str) -> dict[str, Any]:
        return {
            "symbol": "BTCUSDT",
            "orderId": 1 + (OURS + THEIRS).index(order_id),
            "clientOrderId": order_id,
            "price": "60000.00",
            "origQty": "0.001",
            "executedQty": "0.000",
            "status": status,
            "timeInForce": "GTC",
            "type": "LIMIT",
            "side": "BUY",
            "time": self.now_ms(),
            "updateTime": self.now_ms(),
        }


class Bench:
    """One venue with one state folder, and the command lines that belong to them."""

    def __init__(self, venue: Venue, state: Path) -> None:
        self.venue = venue
        self.state = state
        self.config = ROOT / "config" / f"testnet-{venue.venue}.yaml"
        self.sets = [
            f"feed.base_url=http://127.0.0.1:{venue.port}",
            "account.api_key_file=null",
            "account.secret_file=null",
        ]
        self.env = {
            **os.environ,
            "MMBOT_STATE": str(state),
            "MMBOT_API_KEY": KEY,
            "MMBOT_SECRET": SECRET,
        }
        # The name that the bot itself uses.
        self.name = account_name(load(self.config, env=self.env, sets=self.sets), KEYS)

    @property
    def arguments(self) -> list[str]:
        return ["watchdog", str(self.config), *(f"--set={one}" for one in self.sets), "--json"]

    @asynccontextmanager
    async def watchdog(self) -> AsyncIterator[Process]:
        """The command itself, once it relies on the venue."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", *self.arguments, env=self.env, stdout=PIPE, stderr=PIPE
        )
        try:
            async with asyncio.timeout(START_S):
                while self.sight() is not State.WATCHING:
                    assert process.returncode is None, "it did not start"
                    await asyncio.sleep(0.02)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def bot(self) -> AsyncIterator[Process]:
        """A process that does nothing but beat."""
        path = str(bot_path(self.state, self.name))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BOT, path, "mm0a1b2c", env=self.env, stdout=PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"beating\n"
        yield process
        if process.returncode is None:
            process.kill()
        await process.communicate()

    def sight(self) -> State | None:
        beat = read_beat(watchdog_path(self.state, self.name))
        return None if beat is None else beat.state


async def test_a_killed_bots_orders_are_gone_within_five_seconds(tmp_path: Path) -> None:
    async with Venue("binance-spot").serving() as served:
        bench = Bench(served, tmp_path)
        async with bench.bot() as bot, bench.watchdog() as watchdog:
            await refused(bench, watchdog.pid)  # only one may watch
            assert served.open == OURS + THEIRS
            took = await kill(bot, served)
            assert took < (1.5 if pid_namespace() else 5.0)
            reads = served.reads
            await eventually(lambda: served.reads >= reads + 2)
            watchdog.send_signal(signal.SIGTERM)
            out, err = await watchdog.communicate()
    assert watchdog.returncode == 0
    result = json.loads(out)
    assert (result["rescues"], result["rescues_confirmed"]) == (1, 1)
    assert (result["orders_cancelled"], result["reason"]) == (5, "SIGTERM")
    assert served.open == THEIRS
    assert KEY.encode() not in err
    assert SECRET.encode() not in err
    assert bench.sight() is State.BLIND


async def kill(bot: Process, served: Venue) -> float:
    """Seconds from the bot's death until nothing of it rests."""
    bot.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    await eventually(lambda: served.emptied_at)
    return served.emptied_at - killed_at


async def refused(bench: Bench, first: int) -> None:
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *bench.arguments, env=bench.env, stderr=PIPE
    )
    _, err = await second.communicate()
    assert second.returncode == 3
    assert err.decode().count("\n") == 1
    assert f"process {first} already is the watchdog" in err.decode()


async def test_it_speaks_usdm_too_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    async with Venue("binance-usdm").serving() as served:
        bench = Bench(served, tmp_path)
        watch = Watch(config(served, bench), KEYS, tmp_path, bench.name)
        task = asyncio.create_task(watch.go())
        async with bench.bot() as bot:
            await eventually(lambda: bench.sight() is State.WATCHING)
            assert await kill(bot, served) < 5.0
        os.kill(os.getpid(), signal.SIGINT)  # a rescue under way is finished first
        assert await task == 130
        assert watch.result()["rescues_confirmed"] == 1


def config(venue: Venue, bench: Bench) -> Any:
    return load(bench.config, env=bench.env, sets=bench.sets)


async def test_clocks_that_differ_are_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.shell.watchdog.PROBE_S", 0.1)
    async with Venue("binance-spot", ahead_ms=90_000).serving() as served:
        bench = Bench(served, tmp_path)
        watch = Watch(config(served, bench), KEYS, tmp_path, bench.name)
        task = asyncio.create_task(watch.go())
        await eventually(lambda: bench.sight() is State.WATCHING)
        served.ahead_ms = -90_000  # and again when the venue complains
        reads = served.reads
        await eventually(lambda: served.reads > reads)
        watch.stop("seen enough")
        assert await task == 0
    assert watch.result()["reason"] == "seen enough"


async def test_a_venue_that_is_down_is_asked_on(tmp_path: Path) -> None:
    async with Venue("binance-usdm").serving() as served:
        served.down = True
        bench = Bench(served, tmp_path)
        watch = Watch(config(served, bench), KEYS, tmp_path, bench.name)
        task = asyncio.create_task(watch.go())
        await eventually(lambda: watch.result()["failed_calls"] >= 3)
        assert bench.sight() is State.BLIND
        served.down = False
        await eventually(lambda: bench.sight() is State.WATCHING)
        watch.stop("seen enough")
        assert await task == 0


async def test_it_ends_after_so_many_seconds(tmp_path: Path) -> None:
    async with Venue("binance-spot").serving() as served:
        bench = Bench(served, tmp_path)
        watch = Watch(config(served, bench), KEYS, tmp_path, bench.name)
        assert await watch.go(0.3) == 0
        assert watch.result()["reason"] == "ran for 0.3 s"
        assert watch.result()["looks"] >= 1


async def test_what_breaks_ends_it_with_exit_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Venue("binance-spot").serving() as served:
        bench = Bench(served, tmp_path)
        watch = Watch(config(served, bench), KEYS, tmp_path, bench.name)

        def broken() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("bot.shell.watchdog.Watchdog.look", lambda self: broken())
        assert await watch.go() == 1
        assert watch.result()["reason"] == "internal error"


def invoke(*arguments: str, **env: str) -> Any:
    return CliRunner().invoke(app, ["watchdog", *arguments], env=env)


def test_paper_leaves_nothing_to_watch() -> None:
    done = invoke(str(ROOT / "config" / "paper-binance-spot.yaml"))
    assert done.exit_code == 2
    assert "mode paper sends no orders to binance-spot" in done.output


def test_without_keys_it_is_refused() -> None:
    bare = ["--set=account.api_key_file=null", "--set=account.secret_file=null"]
    done = invoke(str(ROOT / "config" / "testnet-binance-spot.yaml"), *bare)
    assert done.exit_code == 3
    assert "there is no API key" in done.output
