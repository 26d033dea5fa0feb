"""Who may ask, how often, and what an answer carries; what is asked is tested per product."""

import json

import pytest

from bot.domain.instrument import Instrument
from bot.venues.binance.limits import ORDERS_IN_10_S
from bot.venues.binance.privateapi import PrivateApi, integer, within
from bot.venues.binance.reply import Refused, Request
from tests.shell.fakemarket import SPOT, USDM
from tests.venues.binance.venuestage import KEY, SECRET, Stage

BOTH = pytest.mark.parametrize("instrument", [SPOT, USDM])


@BOTH
def test_keys_and_signatures(instrument: Instrument) -> None:
    stage = Stage(instrument)
    for key, code in [("", -2014), ("nobody", -2015)]:
        reply = stage.send(stage.request("GET", "account", key=key))
        assert (reply.status, json.loads(reply.body)["code"]) == (401, code)
    reply = stage.send(stage.request("GET", "account", secret=KEY))
    assert (reply.status, json.loads(reply.body)["code"]) == (400, -1022)
    assert stage.send(stage.request("GET", "account", key=KEY, secret=SECRET)).status == 200


@BOTH
def test_a_request_that_arrives_late_does_nothing(instrument: Instrument) -> None:
    stage = Stage(instrument)
    request = stage.request("POST", "order", recvWindow=1_000, **stage.limit_order)
    reply = stage.desk.answer(request, stage.now + 1_001, stage.now * 1_000_000)
    assert json.loads(reply.body)["code"] == -1021
    assert stage.account.orders() == []
    assert stage.desk.answer(request, stage.now + 1_000, stage.now * 1_000_000).status == 200


@BOTH
def test_answers_carry_weight_and_orders_their_counts(instrument: Instrument) -> None:
    stage = Stage(instrument)
    headers = dict(stage.send(stage.request("POST", "order", **stage.limit_order)).headers)
    longer = "1D" if instrument is SPOT else "1M"
    assert headers == {
        "X-MBX-USED-WEIGHT-1M": "1" if instrument is SPOT else "0",
        "X-MBX-ORDER-COUNT-10S": "1",
        f"X-MBX-ORDER-COUNT-{longer}": "1",
    }
    before = int(headers["X-MBX-USED-WEIGHT-1M"])
    reply = stage.send(stage.request("GET", "openOrders", symbol="BTCUSDT"))
    one = 6 if instrument is SPOT else 1
    assert dict(reply.headers) == {"X-MBX-USED-WEIGHT-1M": str(before + one)}
    reply = stage.send(stage.request("GET", "openOrders"))
    all_of_them = 80 if instrument is SPOT else 40
    assert dict(reply.headers) == {"X-MBX-USED-WEIGHT-1M": str(before + one + all_of_them)}


@BOTH
def test_too_many_orders_are_refused_and_cancels_are_not(instrument: Instrument) -> None:
    stage = Stage(instrument)
    kept = stage.place()
    most = ORDERS_IN_10_S[instrument.venue]
    stage.seats[0].counts.count(most - 1, stage.now)
    reply = stage.send(stage.request("POST", "order", **stage.limit_order))
    assert (reply.status, json.loads(reply.body)["code"]) == (429, -1015)
    assert "Retry-After" in dict(reply.headers)
    assert len(stage.account.open_orders()) == 1
    stage.ask("DELETE", "order", symbol="BTCUSDT", orderId=kept["orderId"])
    assert stage.account.open_orders() == []


@BOTH
def test_a_request_over_the_weight_does_nothing(instrument: Instrument) -> None:
    stage = Stage(instrument)
    stage.desk.public.weights.spend(stage.desk.public.weights.most, stage.now)
    stage.desk.public.weights.used += 1
    reply = stage.send(stage.request("POST", "order", **stage.limit_order))
    assert reply.status == 429
    assert stage.account.orders() == []
    public = stage.send(Request("GET", "/fapi/v1/time" if instrument is USDM else "/api/v3/time"))
    assert public.status == 429  # both count together


def test_accounts_do_not_see_each_other() -> None:
    stage = Stage(USDM)
    stage.place()
    other = stage.request("GET", "openOrders", "other-key", "other-secret", symbol="BTCUSDT")
    assert stage.send(other).body == b"[]"


def test_what_is_not_private_is_left_to_others() -> None:
    stage = Stage(USDM)
    api = PrivateApi({}, stage.seats, stage.desk.public.weights)
    for path in ("/fapi/v1/order", "/fapi/v1/depth", "/x", "/api/v3/account"):
        assert api.answer(Request("GET", path), stage.now, 0) is None


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "\u0661", "1" * 19])
def test_integers(text: str) -> None:
    with pytest.raises(Refused):
        integer({"limit": text}, "limit", 5)
    assert integer({"limit": "7"}, "limit", 5, 6) == 6
    assert integer({"limit": "0"}, "limit", 5, 6) == 1
    assert integer({}, "limit", 5) == 5


def test_rows_are_the_newest_or_those_that_follow() -> None:
    rows = [(at, at * 10) for at in range(1, 9)]

    def chosen(**params: str) -> list[int]:
        found = within(rows, params, lambda r: r[0], lambda r: r[1], "fromId")
        return [at for at, _ in found]

    assert chosen(limit="2") == [7, 8]
    assert chosen(limit="2", startTime="3") == [3, 4]
    assert chosen(startTime="3", endTime="5") == [3, 4, 5]
    assert chosen(limit="3", fromId="45") == [5, 6, 7]
