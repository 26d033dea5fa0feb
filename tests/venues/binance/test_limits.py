import json

import pytest

from bot.venues.binance.limits import (
    BAN_MS,
    DAY_MS,
    MINUTE_MS,
    ORDERS_IN_10_S,
    ORDERS_LONG,
    PATIENCE,
    WEIGHT_MAX,
    OrderCounts,
    Weights,
)

NOW = 100 * DAY_MS + 20_000
VENUES = ["binance-spot", "binance-usdm"]


@pytest.mark.parametrize("venue", VENUES)
def test_weight_is_counted_by_the_minute_and_refused_with_a_time_to_wait(venue: str) -> None:
    weights = Weights(venue)
    assert weights.spend(WEIGHT_MAX[venue], NOW) is None
    assert weights.header() == ("X-MBX-USED-WEIGHT-1M", str(WEIGHT_MAX[venue]))
    refusal = weights.spend(1, NOW)
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (429, (("Retry-After", "40"),))
    assert json.loads(refusal.body)["code"] == -1003
    assert weights.spend(1, NOW + 40_000) is None
    assert weights.used == 1


def test_who_goes_on_is_banned_and_served_again_later() -> None:
    weights = Weights("binance-usdm")
    weights.spend(2_400, NOW)
    for _ in range(PATIENCE):
        refusal = weights.spend(1, NOW)
        assert refusal is not None
        assert refusal.status == 429
    banned = weights.spend(1, NOW)
    assert banned is not None
    assert (banned.status, dict(banned.headers)) == (418, {"Retry-After": str(BAN_MS // 1_000)})
    assert str(NOW + BAN_MS) in json.loads(banned.body)["msg"]
    later = weights.spend(1, NOW + MINUTE_MS)
    assert later is not None
    assert later.status == 418
    assert weights.spend(1, NOW + BAN_MS) is None


@pytest.mark.parametrize(("venue", "name"), [(VENUES[0], "1D"), (VENUES[1], "1M")])
def test_orders_are_counted_in_two_windows(venue: str, name: str) -> None:
    counts, most = OrderCounts(venue), ORDERS_IN_10_S[venue]
    assert counts.count(most, NOW) is None
    refusal = counts.count(1, NOW + 3_000)
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (429, (("Retry-After", "7"),))
    body = json.loads(refusal.body)
    assert body["code"] == -1015
    assert f"{most} orders per 10 SECOND" in body["msg"]
    assert counts.count(1, NOW + 10_000) is None
    assert dict(counts.headers(NOW + 10_000)) == {
        "X-MBX-ORDER-COUNT-10S": "1",
        f"X-MBX-ORDER-COUNT-{name}": str(most + 1),  # what was refused does not count
    }
    assert dict(counts.headers(NOW + DAY_MS))[f"X-MBX-ORDER-COUNT-{name}"] == "0"


def test_the_long_window_has_its_own_limit() -> None:
    counts = OrderCounts("binance-usdm")
    for i in range(4):
        assert counts.count(300, NOW + 10_000 * i) is None
    assert ORDERS_LONG["binance-usdm"] == 1_200
    assert counts.count(1, NOW - 20_000 + 50_000) is not None
