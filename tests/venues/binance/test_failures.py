import json

import msgspec
import pytest

from bot.venues.binance.failures import (
    AMENDS,
    CANCELS,
    CLOSED,
    COUNTDOWN,
    FAILURES,
    FILLS,
    LISTEN_KEY,
    LISTS,
    MAINTENANCE,
    MATCHERS,
    OPEN_ORDERS,
    OUTSIDE_WINDOW,
    PLACEMENTS,
    POSITIONS,
    QUERIES,
    SPOILT,
    anything,
    banned,
    below,
    carries_private,
    halted,
    opens_private,
    throttled,
    without_newest,
)
from bot.venues.binance.refusals import refusal

REQUESTS = [
    ("POST", "/api/v3/order", PLACEMENTS),
    ("POST", "/fapi/v1/order", PLACEMENTS),
    ("POST", "/fapi/v1/batchOrders", PLACEMENTS),
    ("DELETE", "/api/v3/order", CANCELS),
    ("DELETE", "/api/v3/openOrders", CANCELS),
    ("DELETE", "/fapi/v1/allOpenOrders", CANCELS),
    ("DELETE", "/fapi/v1/batchOrders", CANCELS),
    ("PUT", "/fapi/v1/order", AMENDS),
    ("PUT", "/fapi/v1/batchOrders", AMENDS),
    ("PUT", "/api/v3/order/amend/keepPriority", AMENDS),
    ("POST", "/api/v3/order/cancelReplace", AMENDS),
    ("GET", "/api/v3/order", QUERIES),
    ("GET", "/fapi/v1/openOrder", QUERIES),
    ("GET", "/api/v3/openOrders", OPEN_ORDERS),
    ("GET", "/fapi/v1/openOrders", OPEN_ORDERS),
    ("GET", "/fapi/v2/positionRisk", POSITIONS),
    ("GET", "/fapi/v3/positionRisk", POSITIONS),
    ("GET", "/fapi/v3/account", POSITIONS),
    ("GET", "/api/v3/account", POSITIONS),
    ("GET", "/fapi/v1/userTrades", FILLS),
    ("GET", "/api/v3/myTrades", FILLS),
    ("POST", "/fapi/v1/countdownCancelAll", COUNTDOWN),
    ("PUT", "/fapi/v1/listenKey", LISTEN_KEY),
]


@pytest.mark.parametrize(("method", "path", "matcher"), REQUESTS)
def test_each_request_is_of_one_kind(method: str, path: str, matcher: object) -> None:
    kinds = [m for m in MATCHERS.values() if m is not anything and m(method, path)]
    assert kinds == [matcher]
    assert anything(method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v3/order/test"),
        ("GET", "/fapi/v1/depth"),
        ("GET", "/dapi/v1/openOrders"),
        ("POST", "/order"),
        ("PATCH", "/api/v3/order"),
    ],
)
def test_other_requests_are_of_none(method: str, path: str) -> None:
    assert [name for name, m in MATCHERS.items() if m(method, path)] == ["anything"]


def test_failures_say_their_code() -> None:
    codes = {name: (f.status, json.loads(f.body)["code"]) for name, f in FAILURES.items()}
    assert codes == {"503": (503, -1000), "-1006": (500, -1006), "-1007": (408, -1007)}
    assert (OUTSIDE_WINDOW.status, json.loads(OUTSIDE_WINDOW.body)["code"]) == (400, -1021)
    assert MAINTENANCE.status == 503
    assert b"maintenance" in MAINTENANCE.body


def test_who_asks_too_much_is_told_when_to_come_back() -> None:
    assert (throttled(7).status, throttled(7).retry_after) == (429, 7)
    ban = banned(10_500, 1_000)
    assert (ban.status, ban.retry_after) == (418, 10)  # rounded up: not before
    assert b"until 10500." in ban.body
    assert banned(1_000, 5_000).retry_after == 0


def test_spoilt_bodies_are_no_json() -> None:
    body = b'{"orderId":1,"status":"NEW"}'
    for form, spoil in SPOILT.items():
        spoilt = spoil(body)
        assert spoilt.status == 200
        assert spoilt.kind == ("text/html" if form == "html" else "application/json")
        with pytest.raises(json.JSONDecodeError):
            json.loads(spoilt.body)


def test_the_newest_order_is_the_one_of_the_highest_id() -> None:
    rows = b'[{"orderId":7,"price":"1.50"},{"orderId":9},{"orderId":8}]'
    assert without_newest(rows) == b'[{"orderId":7,"price":"1.50"},{"orderId":8}]'
    assert without_newest(b"[]") == b"[]"
    with pytest.raises(msgspec.DecodeError):
        without_newest(b'{"code":-1}')


@pytest.mark.parametrize(
    ("target", "private"),
    [
        ("/private/ws", True),
        ("/private/stream?listenKey=short&events=ORDER_TRADE_UPDATE", True),
        ("/ws-api/v3", True),
        ("/ws/" + "0a" * 32, True),
        ("/stream?streams=" + "Ab" * 30, True),
        ("/ws/btcusdt@trade", False),
        ("/public/ws/0", False),
        ("/stream?streams=btcusdt@depth@100ms/btcusdt@trade", False),
        ("/ws", False),
    ],
)
def test_private_sockets_are_known_by_their_target(target: str, private: bool) -> None:
    assert opens_private(target) is private


def test_private_sessions_carry_a_key() -> None:
    assert carries_private(["btcusdt@trade", "0a" * 32])
    assert not carries_private(["btcusdt@trade"])
    assert not carries_private([])


def test_lists_that_can_lag_are_orders_or_positions() -> None:
    for paths in LISTS.values():
        kinds = [(OPEN_ORDERS("GET", path), POSITIONS("GET", path)) for path in paths]
        assert kinds[0] == (True, False)
        assert set(kinds[1:]) == {(False, True)}


def test_a_closed_market_says_so_in_the_words_of_its_product() -> None:
    for root, answer in CLOSED:
        venue = "binance-spot" if root == "/api/" else "binance-usdm"
        found = msgspec.json.decode(answer.body)
        assert refusal(venue, answer.status, found["code"], found["msg"]).reason == "closed"
        assert below(root, PLACEMENTS)("POST", f"{root}v1/order")
        assert not below(root, PLACEMENTS)("POST", "/other/v1/order")
    assert halted(b'[{"status":"TRADING"},{"status":"TRADING"}]') == (
        b'[{"status":"HALT"},{"status":"HALT"}]'
    )
