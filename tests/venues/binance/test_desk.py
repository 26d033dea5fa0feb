import json

import pytest

from bot.domain.units import Side
from bot.venues.binance.desk import Desk
from bot.venues.binance.reply import Request
from bot.venues.binance.streams import Session
from bot.venues.binance.userstream import LIFE_MS
from tests.shell.fakemarket import MIDDLE, SPOT, USDM
from tests.venues.binance.venuestage import Stage


def test_public_requests_go_on_as_before() -> None:
    stage = Stage(USDM)
    reply = stage.send(Request("GET", "/fapi/v1/depth", "symbol=BTCUSDT&limit=5"))
    assert (reply.status, reply.headers) == (200, (("X-MBX-USED-WEIGHT-1M", "2"),))
    assert stage.send(Request("POST", "/fapi/v1/depth")).status == 404


def test_without_seats_nothing_is_private() -> None:
    stage = Stage(USDM)
    desk = Desk(stage.desk.public, [], lambda: stage.now)
    assert desk.answer(stage.request("GET", "account"), stage.now, 0).status == 404
    assert desk.session("/private/ws", {}) is None
    assert desk.session("/ws-api/v3", {}) is None
    assert list(desk.events(stage.now)) == []


@pytest.mark.parametrize(
    ("path", "in_query"),
    [
        ("/private/ws", True),
        ("/private/stream", True),
        ("/private/ws/", False),
        ("/ws/", False),
        ("/stream/", False),
    ],
)
def test_a_listen_key_opens_a_session(path: str, in_query: bool) -> None:
    stage = Stage(USDM)

    def session(key: str) -> object:
        query = {"listenKey": key} if in_query else {}
        return stage.desk.session(path if in_query else path + key, query)

    key = stage.ask("POST", "listenKey")["listenKey"]
    opened = session(key)
    assert isinstance(opened, Session)
    assert list(opened.streams) == [key]
    assert opened.carries(key)
    assert opened.combined == ("stream" in path)
    assert session("0" * 64) is None
    stage.now += LIFE_MS
    assert session(key) is None


def test_paths_of_market_data_open_as_before() -> None:
    desk = Stage(USDM).desk
    opened = desk.session("/public/ws/0", {})
    assert isinstance(opened, Session)
    assert opened.category == "public"
    assert desk.session("/ws/btcusdt@trade", {}) is not None
    assert desk.session("/private/ws", {}) is None
    assert desk.session("/elsewhere", {}) is None
    names = "/".join(f"x{i}@trade" for i in range(300))
    assert desk.session("/stream", {"streams": names}) is None


def test_events_go_to_the_owners_stream_and_to_nobody_without_one() -> None:
    stage = Stage(USDM)
    stage.place()
    assert stage.events() == []  # nobody listened
    key = stage.ask("POST", "listenKey")["listenKey"]
    stage.place()
    ((name, raw),) = stage.desk.events(stage.now)
    assert (name, json.loads(raw)["e"]) == (key, "ORDER_TRADE_UPDATE")
    stage.now += LIFE_MS
    stage.flow(Side.SELL, MIDDLE - 1, 200)
    assert [one["e"] for one in stage.events()] == ["listenKeyExpired"]
    assert stage.events() == []


def test_what_happens_by_itself() -> None:
    stage = Stage(SPOT)
    stage.place()
    stage.account.arm(stage.now)
    stage.desk.tend(0, stage.now)
    assert stage.account.open_orders() == []
