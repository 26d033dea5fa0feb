import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell import misbehaviour
from bot.shell.misbehaviour import Asked, Fault, History, Listed, Lost, Misbehaviour
from bot.shell.venuesockets import Pulse, VenueSockets
from bot.shell.waitingroom import Closed
from bot.venues.binance.failures import CANCELS, OPEN_ORDERS, PLACEMENTS, POSITIONS, QUERIES
from bot.venues.binance.streams import Session, session_of
from tests.shell.wire import Clock, client, descriptors, eventually, frame

ORDER = "/fapi/v1/order"
OPEN = "/fapi/v1/openOrders"
RISK = "/fapi/v3/positionRisk"
LISTING = "/fapi/v1/exchangeInfo"
DEPTH = "/fapi/v1/depth"
SIGNED = "?timestamp=1&signature=00"


class FakeVenue:
    """Open orders; each request that it sees is remembered with its time of arrival."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str, str]] = []
        self.open: list[int] = []
        self.status = 200
        self.listing = b'{"symbols":[{"symbol":"BTCUSDT","status":"TRADING"}]}'

    def carry_out(self, method: str, path: str, at: int) -> web.Response:
        self.seen.append((at, method, path))
        if (method, path) == ("POST", ORDER):
            self.open.append(len(self.seen))
        body = self.orders() if path == OPEN else b'{"orderId":%d}' % len(self.seen)
        if path == LISTING:
            body = self.listing
        headers = {"X-MBX-USED-WEIGHT-1M": "17", "Other": "x"}
        return web.Response(
            status=self.status, body=body, content_type="application/json", headers=headers
        )

    def orders(self) -> bytes:
        return json.dumps([{"orderId": order} for order in self.open]).encode()


class FakeWires:
    """Notes what is done to the sockets."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def publish(self, key: str, raw: bytes) -> None:
        self.done.append((key, raw))

    def cut(self, which: Callable[[Session], bool]) -> None:
        names = ("key", "btcusdt@trade")
        sessions = [session_of("binance-spot", "/ws", {}) for _ in names]
        for name, session in zip(names, sessions, strict=True):
            assert session is not None
            session.change([name], True)
            if which(session):
                self.done.append(f"cut {name}")

    def mute(self, seconds: float) -> None:
        self.done.append("mute")

    def unmute(self) -> None:
        self.done.append("unmute")


class Stage:
    """Misbehaviour around a fake venue, by a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.began = self.clock.now
        self.venue = FakeVenue()
        self.wires = FakeWires()
        lists = {
            Listed("me", OPEN): self.venue.orders,
            Listed("me", RISK): lambda: b"[%d]" % len(self.venue.seen),
            Listed("other", OPEN): lambda: b"[]",
        }
        self.faults = Misbehaviour(self.clock, self.wires, lists)
        self.left = False

    async def ask(
        self, method: str = "POST", path: str = ORDER, *, signed: bool = True
    ) -> web.Response:
        asked = Asked(method, path, "me", signed, lambda: self.left)
        return await self.faults.through(asked, lambda at: self.venue.carry_out(method, path, at))

    async def asking(self, method: str = "POST", path: str = ORDER) -> Any:
        """A request under way."""
        task = asyncio.create_task(self.ask(method, path))
        await asyncio.sleep(0)
        return task

    async def after(self, ms: float) -> None:
        self.clock.now += round(ms * NS_PER_MS)
        self.faults.tend(self.clock.now)
        for _ in range(3):
            await asyncio.sleep(0)

    def arrivals(self) -> list[float]:
        """When the venue saw something, ms since the start."""
        return [(at - self.began) / NS_PER_MS for at, _, _ in self.venue.seen]


def code(answer: web.Response) -> int:
    assert isinstance(answer.body, bytes)
    return int(json.loads(answer.body)["code"])


def rows(answer: web.Response) -> list[int]:
    assert isinstance(answer.body, bytes)
    return [row["orderId"] for row in json.loads(answer.body)]


# --- Requests and replies ------------------------------------------------------------------


async def test_a_lost_reply_was_carried_out_and_only_as_often_as_asked() -> None:
    stage = Stage()
    fault = stage.faults.lose_reply(PLACEMENTS, times=2)
    assert (await stage.ask("DELETE")).status == 200  # does not match
    for _ in range(2):
        with pytest.raises(Lost):
            await stage.ask()
    assert (await stage.ask()).status == 200
    assert len(stage.venue.open) == 3
    assert (fault.met, fault.left, stage.faults.met("lose_reply")) == (2, 0, 2)


async def test_a_lost_request_was_not_carried_out() -> None:
    stage = Stage()
    stage.faults.lose_request(CANCELS)
    with pytest.raises(Lost):
        await stage.ask("DELETE")
    assert stage.venue.seen == []
    assert (await stage.ask("DELETE")).status == 200


@pytest.mark.parametrize("unseen", [False, True])
async def test_a_hanging_request_waits_until_its_client_leaves(unseen: bool) -> None:
    stage = Stage()
    lose = stage.faults.lose_request if unseen else stage.faults.lose_reply
    lose(PLACEMENTS, hang=True)
    task = await stage.asking()
    assert len(stage.venue.seen) == (not unseen)
    await stage.after(60_000)
    assert not task.done()
    stage.left = True
    await stage.after(0)
    with pytest.raises(Lost):
        task.result()


async def test_nothing_hangs_for_ever() -> None:
    stage = Stage()
    stage.faults.lose_reply(PLACEMENTS, hang=True)
    task = await stage.asking()
    await stage.after(misbehaviour.HANG_NS_MAX / NS_PER_MS)
    assert isinstance(task.exception(), Lost)


@pytest.mark.parametrize(
    ("name", "status", "wanted"),
    [("503", 503, -1000), ("-1006", 500, -1006), ("-1007", 408, -1007)],
)
async def test_the_same_failure_after_and_instead_of_the_request(
    name: str, status: int, wanted: int
) -> None:
    stage = Stage()
    stage.faults.fail_after(PLACEMENTS, name)
    after = await stage.ask()
    assert (after.status, code(after), len(stage.venue.open)) == (status, wanted, 1)
    stage.faults.fail_before(PLACEMENTS, name)
    before = await stage.ask()
    assert (before.status, before.body, len(stage.venue.open)) == (status, after.body, 1)


@pytest.mark.parametrize("form", ["truncated", "html", "empty"])
async def test_a_spoilt_answer_keeps_the_weight(form: str) -> None:
    stage = Stage()
    stage.faults.spoil(PLACEMENTS, form)
    answer = await stage.ask()
    assert (answer.status, len(stage.venue.open)) == (200, 1)
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "17"
    assert "Other" not in answer.headers
    assert answer.content_type == ("text/html" if form == "html" else "application/json")
    assert isinstance(answer.body, bytes)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


async def test_a_late_request_arrives_late_though_its_client_left() -> None:
    stage = Stage()
    stage.faults.delay_request(PLACEMENTS, 800)
    task = await stage.asking()
    stage.left = True
    await stage.after(799)
    assert stage.arrivals() == []
    stage.faults.heal()  # on its way already
    await stage.after(1)
    assert stage.arrivals() == [800]
    assert task.result().status == 200


async def test_a_late_reply_is_to_a_request_in_time() -> None:
    stage = Stage()
    stage.faults.delay_reply(PLACEMENTS, 300)
    task = await stage.asking()
    assert stage.arrivals() == [0]
    await stage.after(299)
    assert not task.done()
    await stage.after(1)
    assert task.result().status == 200


async def test_faults_of_one_request_add_up() -> None:
    stage = Stage()
    stage.faults.delay_request(PLACEMENTS, 100)
    stage.faults.delay_reply(PLACEMENTS, 100)
    stage.faults.lose_reply(PLACEMENTS)
    task = await stage.asking()
    await stage.after(100)
    assert stage.arrivals() == [100]
    assert not task.done()
    await stage.after(100)
    assert isinstance(task.exception(), Lost)


# --- Lists ---------------------------------------------------------------------------------


async def test_a_lagging_list_is_what_it_was() -> None:
    stage = Stage()
    stage.venue.open = [1]
    stage.faults.lag(OPEN_ORDERS, 100)
    await stage.after(5)
    stage.venue.open = [1, 2]
    await stage.after(5)  # seen at 10 ms
    stage.venue.open = [2]
    await stage.after(95)
    assert rows(await stage.ask("GET", OPEN)) == [1]
    await stage.after(5)
    assert rows(await stage.ask("GET", OPEN)) == [1, 2]
    await stage.after(95)
    assert rows(await stage.ask("GET", OPEN)) == [2]
    assert (await stage.ask("GET", RISK)).body != b"[0]"  # another list
    stage.venue.open = [3]
    stage.faults.heal("lag")
    assert rows(await stage.ask("GET", OPEN)) == [3]


async def test_lagging_positions() -> None:
    stage = Stage()
    stage.faults.lag(POSITIONS, 1_000, times=1)
    await stage.ask()
    assert (await stage.ask("GET", RISK)).body == b"[0]"
    assert (await stage.ask("GET", RISK)).body == b'{"orderId":3}'


async def test_errors_of_a_list_are_told_at_once() -> None:
    stage = Stage()
    stage.venue.status = 400
    for switch in (stage.faults.forget_newest, stage.faults.answer_empty):
        switch()
    stage.faults.lag(OPEN_ORDERS, 10)
    stage.venue.open = [1]
    answer = await stage.ask("GET", OPEN)
    assert (answer.status, rows(answer)) == (400, [1])


async def test_the_newest_order_is_left_out_until_healed() -> None:
    stage = Stage()
    stage.venue.open = [4, 6, 5]
    stage.faults.forget_newest()
    assert rows(await stage.ask("GET", OPEN)) == [4, 5]
    assert rows(await stage.ask("GET", OPEN)) == [4, 5]
    stage.faults.heal("forget_newest")
    assert rows(await stage.ask("GET", OPEN)) == [4, 6, 5]


async def test_a_list_that_is_wrongly_empty() -> None:
    stage = Stage()
    stage.venue.open = [4]
    stage.faults.answer_empty(times=1)
    answer = await stage.ask("GET", OPEN)
    assert (answer.status, answer.body) == (200, b"[]")
    assert rows(await stage.ask("GET", OPEN)) == [4]


def test_a_history_forgets_what_nobody_is_told_any_more() -> None:
    history = History(10)
    for now in range(0, 100, 5):
        history.take(now, lambda now=now: b"%d" % now)
    assert [history.at(when) for when in (94, 92, 85)] == [b"90", b"90", b"85"]
    assert history.at(0) == b"85"  # the oldest that is known


def test_a_long_history_takes_longer_steps() -> None:
    history = History(10 * misbehaviour.LAG_STEPS)
    for now in range(30):
        history.take(now, lambda now=now: b"%d" % now)
    assert [history.at(when) for when in (9, 19, 29)] == [b"0", b"10", b"20"]


# --- Refusals ------------------------------------------------------------------------------


async def test_maintenance_refuses_what_is_signed() -> None:
    stage = Stage()
    stage.faults.maintenance()
    assert (await stage.ask()).status == 503
    assert (await stage.ask("GET", OPEN)).status == 503
    assert (await stage.ask("GET", DEPTH, signed=False)).status == 200
    stage.faults.events.publish("key", b"{}")
    assert stage.wires.done == [("key", b"{}")]
    stage.faults.heal()
    assert (await stage.ask()).status == 200


async def test_a_halted_symbol_takes_no_orders_and_is_listed_so() -> None:
    stage = Stage()
    stage.faults.halt()
    for path, number in ((ORDER, -4140), ("/api/v3/order", -2010)):
        answer = await stage.ask("POST", path)
        assert (answer.status, code(answer)) == (400, number)
    assert (await stage.ask("PUT", ORDER)).status == 400
    assert (await stage.ask("DELETE", ORDER)).status == 200
    listing = await stage.ask("GET", LISTING, signed=False)
    assert listing.body == stage.venue.listing.replace(b"TRADING", b"HALT")
    stage.faults.heal("halt")
    assert (await stage.ask("POST", ORDER)).status == 200
    assert stage.faults.active() == {}


async def test_a_clock_storm_refuses_what_is_signed() -> None:
    stage = Stage()
    stage.faults.clock_storm(times=1)
    assert (await stage.ask("GET", DEPTH, signed=False)).status == 200
    answer = await stage.ask("GET", ORDER)
    assert (answer.status, code(answer)) == (400, -1021)
    assert (await stage.ask("GET", ORDER)).status == 200


async def test_throttling_says_when_to_come_back() -> None:
    stage = Stage()
    stage.faults.throttle(3, QUERIES)
    assert (await stage.ask()).status == 200
    answer = await stage.ask("GET", ORDER)
    assert (answer.status, answer.headers["Retry-After"], code(answer)) == (429, "3", -1003)
    assert (await stage.ask("GET", ORDER)).status == 200


async def test_a_ban_is_for_everything_and_ends_by_itself() -> None:
    stage = Stage()
    stage.faults.ban(10)
    stage.clock.now += 2_500 * NS_PER_MS
    answer = await stage.ask("GET", DEPTH, signed=False)
    assert (answer.status, answer.headers["Retry-After"]) == (418, "8")
    assert str((stage.began + 10 * NS_PER_S) // NS_PER_MS) in answer.text
    assert stage.venue.seen == []
    stage.clock.now = stage.began + 10 * NS_PER_S
    assert (await stage.ask()).status == 200
    assert stage.faults.active() == {}


# --- Partitions, healing, limits -----------------------------------------------------------


async def test_a_partition_hears_nobody_and_may_be_deaf_too() -> None:
    stage = Stage()
    stage.faults.partition()
    assert stage.wires.done == []
    task = await stage.asking("GET", DEPTH)
    stage.faults.heal()
    assert (await stage.ask()).status == 200
    await stage.after(1_000)
    assert not task.done()  # lost is lost
    fault = stage.faults.partition(both=True)
    assert stage.wires.done == ["mute"]
    stage.faults.heal(fault)
    assert stage.wires.done == ["mute", "unmute"]
    stage.faults.heal()
    assert stage.wires.done == ["mute", "unmute"]
    await stage.faults.close()
    assert isinstance(task.exception(), Closed)
    assert len(stage.venue.seen) == 1


async def test_healing_one_leaves_the_others() -> None:
    stage = Stage()
    first = stage.faults.delay_reply(PLACEMENTS, 1, times=None)
    stage.faults.delay_reply(CANCELS, 1, times=None)
    stage.faults.ban(1)
    stage.faults.heal("ban")
    assert stage.faults.active() == {"delay_reply": None}
    stage.faults.heal(first)
    assert (await stage.ask()).status == 200
    task = await stage.asking("DELETE")
    assert not task.done()
    with pytest.raises(ValueError, match="no_such is none of lose_reply"):
        stage.faults.heal("no_such")
    await stage.faults.close()


def test_only_private_sockets_are_cut() -> None:
    stage = Stage()
    stage.faults.events.cut()
    assert stage.wires.done == ["cut key"]


def test_healing_all_heals_the_events() -> None:
    stage = Stage()
    stage.faults.events.delay(10)
    stage.faults.events.publish("key", b"1")
    stage.faults.heal()
    assert stage.wires.done == [("key", b"1")]


async def test_late_events_leave_by_the_same_tending() -> None:
    stage = Stage()
    stage.faults.events.delay(10)
    stage.faults.events.publish("key", b"1")
    await stage.after(10)
    assert stage.wires.done == [("key", b"1")]


async def test_closing_sends_nothing_late_to_the_venue() -> None:
    stage = Stage()
    stage.faults.delay_request(PLACEMENTS, 800)
    task = await stage.asking()
    await stage.faults.close()
    assert isinstance(task.exception(), Closed)
    assert stage.venue.seen == []
    assert repr(stage.faults).startswith("<Misbehaviour {} waiting=0 <EventFaults off")


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    faults = stage.faults
    for wrong in (
        lambda: faults.lose_reply(PLACEMENTS, times=0),
        lambda: faults.fail_after(PLACEMENTS, "404"),
        lambda: faults.spoil(PLACEMENTS, "rotten"),
        lambda: faults.delay_request(PLACEMENTS, -1),
        lambda: faults.lag(OPEN_ORDERS, 1e9),
        lambda: faults.lag(PLACEMENTS, 1),
        lambda: faults.ban(-1),
        lambda: faults.throttle(-1),
    ):
        with pytest.raises(ValueError, match=r"must be|is none of|is no time|none of the lists"):
            wrong()
    assert faults.active() == {}
    monkeypatch.setattr(misbehaviour, "FAULTS_MAX", 1)
    faults.ban(1)
    with pytest.raises(ValueError, match="at once"):
        faults.ban(1)
    stage.clock.now += 2 * NS_PER_S  # what is over does not count
    faults.ban(1)


def test_every_name_is_a_switch() -> None:
    for name in misbehaviour.NAMES:
        assert getattr(Misbehaviour, name).__annotations__["return"] in (Fault, "Fault")


# --- On real sockets -----------------------------------------------------------------------


def opened(path: str, query: Mapping[str, str]) -> Session | None:
    return session_of("binance-usdm", path, query)


class Served:
    """The same behind sockets, where a client subscribes to a key as if it were a stream."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.venue = FakeVenue()
        self.sockets = VenueSockets(
            session_of=opened,
            respond=self._respond,
            admit=lambda request: self.faults.admit(request),
            pulse=Pulse(20 * NS_PER_S, 60 * NS_PER_S, 5),
            clock=self.clock,
            host="127.0.0.1",
            port=0,
        )
        self.faults = Misbehaviour(self.clock, self.sockets)

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        return await self.faults.respond(
            request, lambda at: self.venue.carry_out(request.method, request.path, at)
        )

    def tend(self, ms: float = 0) -> None:
        self.clock.now += round(ms * NS_PER_MS)
        self.faults.tend(self.clock.now)
        self.sockets.tend(self.clock.now)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Served, aiohttp.ClientSession]]:
    stage = Served()
    await stage.sockets.start()
    base = f"http://127.0.0.1:{stage.sockets.port}"
    try:
        async with aiohttp.ClientSession(base) as session:
            yield stage, session
    finally:
        await stage.faults.close()
        await stage.sockets.close()
        assert len(stage.faults._room) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_over_sockets_a_lost_reply_is_a_dropped_connection() -> None:
    async with served() as (stage, session):
        stage.faults.lose_reply(PLACEMENTS)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(ORDER + SIGNED)
        assert len(stage.venue.open) == 1
        async with session.post(ORDER + SIGNED) as answer:
            assert answer.status == 200


async def test_over_sockets_a_hanging_request_ends_with_its_client() -> None:
    async with served() as (stage, session):
        stage.faults.lose_reply(PLACEMENTS, hang=True)
        with pytest.raises(TimeoutError):
            await session.post(ORDER, timeout=aiohttp.ClientTimeout(0.05))
        assert len(stage.venue.open) == 1
        assert len(stage.faults._room) == 1

        def left() -> bool:
            stage.tend()
            return len(stage.faults._room) == 0

        await eventually(left)


async def test_over_sockets_a_late_request_survives_its_client() -> None:
    async with served() as (stage, session):
        stage.faults.delay_request(PLACEMENTS, 800)
        with pytest.raises(TimeoutError):
            await session.post(ORDER, timeout=aiohttp.ClientTimeout(0.05))
        stage.tend(799)
        assert stage.venue.open == []
        stage.tend(1)
        await eventually(lambda: stage.venue.open)


async def test_over_sockets_what_is_signed_is_known_by_its_signature() -> None:
    async with served() as (stage, session):
        stage.faults.maintenance()
        for request, status in (
            (session.get(OPEN + SIGNED), 503),
            (session.post(ORDER, data="symbol=BTCUSDT&signature=00"), 503),
            (session.get(DEPTH), 200),
        ):
            async with request as answer:
                assert answer.status == status


async def test_over_sockets_private_streams_are_cut_and_stay_shut() -> None:
    subscribe = {"method": "SUBSCRIBE", "params": ["key"], "id": 1}
    async with (
        served() as (stage, session),
        client(stage.sockets.port, "/ws") as private,
        client(stage.sockets.port, "/public/ws/btcusdt@trade") as public,
    ):
        await private.send_json(subscribe)
        await eventually(lambda: stage.sockets.stats().subscriptions == 2)
        stage.faults.events.cut(stay_shut=True)
        await eventually(lambda: stage.sockets.stats().clients == 1)
        stage.sockets.publish("btcusdt@trade", b"{}")
        assert await frame(public) == b"{}"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/private/ws")
        assert refused.value.status == 503
        async with session.ws_connect("/public/ws"):
            pass
        stage.faults.heal()
        async with session.ws_connect("/ws") as again, session.ws_connect("/private/ws"):
            await again.send_json(subscribe)
            assert json.loads(await frame(again)) == {"result": None, "id": 1}
            stage.faults.events.publish("key", b"[]")
            assert await frame(again) == b"[]"


async def test_over_sockets_a_partition_keeps_the_streams_that_there_are() -> None:
    async with (
        served() as (stage, session),
        client(stage.sockets.port, "/public/ws/btcusdt@trade") as public,
    ):
        await eventually(lambda: stage.sockets.stats().subscriptions == 1)
        stage.faults.partition()
        for request in (session.get(DEPTH), session.ws_connect("/public/ws/btcusdt@trade")):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await request
        assert stage.venue.seen == []
        stage.sockets.publish("btcusdt@trade", b"{}")
        assert await frame(public) == b"{}"
        stage.faults.partition(both=True)
        stage.sockets.publish("btcusdt@trade", b'"lost"')
        stage.faults.heal()
        stage.sockets.publish("btcusdt@trade", b'"heard"')
        assert await frame(public) == b'"heard"'


async def test_closing_with_requests_that_hang_leaves_nothing() -> None:
    before = descriptors()
    async with served() as (stage, session):
        stage.faults.partition()
        stage.faults.delay_request(CANCELS, 1_000)
        asking = [asyncio.create_task(session.post(ORDER)) for _ in range(3)]
        asking.append(asyncio.create_task(session.ws_connect("/public/ws")))
        await eventually(lambda: len(stage.faults._room) == 4)
        await stage.faults.close()
        for failed in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(failed, aiohttp.ClientError)
    await eventually(lambda: descriptors() <= before)
