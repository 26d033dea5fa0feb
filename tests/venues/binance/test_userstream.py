import json

from bot.venues.binance.userstream import LIFE_MS, UserStream

NOW = 1_700_000_000_000


def test_a_listen_key_lives_for_an_hour_and_can_be_extended() -> None:
    stream = UserStream("binance-usdm", "key")
    assert not stream.lives(NOW)
    assert not stream.extend(NOW)
    key = stream.open(NOW)
    assert (len(key), stream.name) == (64, key)
    assert stream.open(NOW + LIFE_MS - 1) == key
    assert stream.extend(NOW + LIFE_MS)
    assert stream.lives(NOW + 2 * LIFE_MS - 1)
    assert not stream.overdue(NOW + 2 * LIFE_MS - 1)
    assert stream.overdue(NOW + 2 * LIFE_MS)
    assert stream.open(NOW + 2 * LIFE_MS) != key


def test_an_expired_key_is_told_on_its_own_stream() -> None:
    stream = UserStream("binance-usdm", "key")
    key = stream.open(NOW)
    name, raw = stream.end(NOW + 5)
    told = {"e": "listenKeyExpired", "E": NOW + 5, "listenKey": key}
    assert (name, json.loads(raw)) == (key, told)
    assert not stream.lives(NOW + 5)
    assert not stream.overdue(NOW + 2 * LIFE_MS)
    assert stream.open(NOW + 6) != key


def test_a_spot_stream_needs_no_key_and_wraps_what_it_says() -> None:
    stream = UserStream("binance-spot", "key")
    assert stream.lives(NOW)
    assert json.loads(stream.frame({"e": "x"})) == {"subscriptionId": 0, "event": {"e": "x"}}
    before = stream.name
    name, raw = stream.end(NOW)
    assert (name, json.loads(raw)["event"]["e"]) == (before, "eventStreamTerminated")
    assert stream.lives(NOW)
    assert stream.name != before
    assert stream.frame({"e": 1}) == UserStream("binance-spot", "other").frame({"e": 1})
    assert UserStream("binance-usdm", "key").frame({"e": 1}) == b'{"e":1}'
