import json
from decimal import Decimal
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.venues.binance.reply import Refused
from bot.venues.binance.streams import (
    NAME_LENGTH_MAX,
    STREAMS_MAX,
    Session,
    category_of,
    session_of,
    stream_of,
)

SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))


@pytest.mark.parametrize(
    ("instrument", "name", "kind", "every", "levels"),
    [
        (SPOT, "btcusdt@depth", "depth", 1_000, 0),
        (SPOT, "btcusdt@depth@100ms", "depth", 100, 0),
        (USDM, "btcusdt@depth", "depth", 250, 0),
        (USDM, "btcusdt@depth@500ms", "depth", 500, 0),
        (USDM, "btcusdt@depth@0ms", "depth", 0, 0),
        (SPOT, "btcusdt@depth5", "partial", 1_000, 5),
        (USDM, "btcusdt@depth20@100ms", "partial", 100, 20),
        (SPOT, "btcusdt@bookTicker", "bookTicker", 0, 0),
        (SPOT, "btcusdt@trade", "trade", 0, 0),
        (SPOT, "btcusdt@aggTrade", "aggTrade", 0, 0),
        (SPOT, "btcusdt@ticker", "ticker", 1_000, 0),
        (SPOT, "btcusdt@miniTicker", "miniTicker", 1_000, 0),
        (SPOT, "btcusdt@kline_1m", "kline", 2_000, 0),
        (USDM, "btcusdt@kline_15m", "kline", 250, 0),
    ],
)
def test_names(instrument: Instrument, name: str, kind: str, every: int, levels: int) -> None:
    stream = stream_of(instrument, name)
    assert stream is not None
    assert (stream.name, stream.kind, stream.every, stream.levels) == (name, kind, every, levels)


@pytest.mark.parametrize(
    "name",
    [
        "ethusdt@depth",
        "BTCUSDT@depth",
        "btcusdt",
        "btcusdt@",
        "btcusdt@depth@7ms",
        "btcusdt@depth6",
        "btcusdt@depth@500ms",  # no speed of spot
        "btcusdt@trade@100ms",
        "btcusdt@kline_7m",
        "btcusdt@1m",
        "!ticker@arr",
    ],
)
def test_names_that_are_not_served(name: str) -> None:
    assert stream_of(SPOT, name) is None


def test_categories() -> None:
    public = ("btcusdt@depth@100ms", "btcusdt@depth5", "btcusdt@bookTicker", "btcusdt@trade")
    market = ("btcusdt@aggTrade", "btcusdt@ticker", "btcusdt@kline_1m", "btcusdt@markPrice")
    assert {category_of(name) for name in public} == {"public"}
    assert {category_of(name) for name in market} == {"market"}


@pytest.mark.parametrize(
    ("path", "query", "category", "combined", "streams"),
    [
        ("/ws", {}, "", False, []),
        ("/ws/btcusdt@depth", {}, "", False, ["btcusdt@depth"]),
        ("/ws/a@depth/b@trade", {}, "", False, ["a@depth", "b@trade"]),
        ("/stream", {"streams": "a@depth/b@trade"}, "", True, ["a@depth", "b@trade"]),
        ("/stream/0", {}, "", True, []),  # ccxt, spot
        ("/public/ws/3", {}, "public", False, []),  # ccxt, linear
        ("/market/ws/a@ticker", {}, "market", False, ["a@ticker"]),
        ("/public/stream", {"streams": "a@depth"}, "public", True, ["a@depth"]),
        ("/private/ws", {"listenKey": "x"}, "private", False, []),
    ],
)
def test_paths(
    path: str, query: dict[str, str], category: str, combined: bool, streams: list[str]
) -> None:
    session = session_of("binance-usdm", path, query)
    assert session is not None
    assert (session.category, session.combined) == (category, combined)
    assert list(session.streams) == streams


def test_other_paths_open_nothing() -> None:
    assert session_of("binance-spot", "/api/v3/depth", {}) is None
    assert session_of("binance-spot", "/other/ws", {}) is None
    with pytest.raises(Refused):
        session_of("binance-spot", "/ws/" + "x" * NAME_LENGTH_MAX + "@depth", {})


def test_a_routed_connection_carries_its_category_only() -> None:
    routed = Session("binance-usdm", "market", False)
    assert [routed.carries(n) for n in ("a@depth", "a@ticker")] == [False, True]
    assert Session("binance-usdm", "", False).carries("a@depth")
    assert not Session("binance-usdm", "private", False).carries("a@ticker")


def say(session: Session, **message: Any) -> Any:
    return json.loads(session.receive(json.dumps(message)))


def test_control_messages() -> None:
    session = Session("binance-spot", "", False)
    assert say(session, method="SUBSCRIBE", params=["a@trade", "b@x"], id=1) == {
        "result": None,
        "id": 1,
    }
    assert say(session, method="SUBSCRIBE", params=["a@trade"], id="two")["id"] == "two"
    assert say(session, method="LIST_SUBSCRIPTIONS", id=3)["result"] == ["a@trade", "b@x"]
    assert say(session, method="UNSUBSCRIBE", params=["b@x", "never@was"], id=None) == {
        "result": None,
        "id": None,
    }
    assert list(session.streams) == ["a@trade"]
    assert say(session, method="GET_PROPERTY", params=["combined"], id=5)["result"] is False
    assert say(session, method="SET_PROPERTY", params=["combined", True], id=6)["result"] is None
    assert say(session, method="GET_PROPERTY", params=["combined"], id=5)["result"] is True


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", 3),
        (b"\xff", 3),
        (b"[]", 2),
        (b'{"id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":["a@b"],"id":true}', 2),
        (b'{"method":"SUBSCRIBE","params":["a@b"],"id":{}}', 2),
        (b'{"method":"SUBSCRIBE","params":["a@b"],"id":"%b"}' % (b"x" * 37), 2),
        (b'{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":[7],"id":1}', 2),
        (b'{"method":"SUBSCRIBE","params":"a@b","id":1}', 2),
        (b'{"method":"JUMP","id":1}', 2),
        (b'{"method":[],"id":1}', 2),
        (b'{"method":"GET_PROPERTY","params":["other"],"id":1}', 0),
        (b'{"method":"GET_PROPERTY","id":1}', 0),
        (b'{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
    ],
)
def test_control_messages_that_are_refused(text: bytes, code: int) -> None:
    session = Session("binance-spot", "", False)
    reply = json.loads(session.receive(text))
    assert reply["error"]["code"] == code
    assert session.streams == {}


def test_streams_are_limited() -> None:
    session = Session("binance-usdm", "", False)
    most = STREAMS_MAX["binance-usdm"]
    assert "result" in say(session, method="SUBSCRIBE", params=[f"{i}@x" for i in range(most)])
    assert say(session, method="SUBSCRIBE", params=["more@x"], id=2)["error"]["code"] == 2
    assert len(session.streams) == most
