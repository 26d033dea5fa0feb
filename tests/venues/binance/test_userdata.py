"""Messages of the private stream, as the core learns them."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.domain.events import (
    Amended,
    Filled,
    FillRecovered,
    Funded,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
)
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.userdata import ENDED, NOTHING, UserData
from bot.venues.orderentry import OrderReport, Status, StreamNews
from tests.conftest import DATA, present

SPOT = Instrument("binance-spot", "ETHUSDT", "ETH", "USDT", Decimal("0.01"), Decimal("0.0001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))

PREFIX = "mm1a2b3c"
OWN, EARLIER, FOREIGN = "mm1a2b3c-7", "mm000000-7", "web_abc"
AT = 1_700_000_000_000_000_000
MS = 1_000_000

spot, usdm = UserData(SPOT, PREFIX), UserData(USDM, PREFIX)


def futures(x: str, status: str, c: str = OWN, **changes: Any) -> dict[str, Any]:
    """An ORDER_TRADE_UPDATE of a buy of 0.025 at 61800.10."""
    order = {
        "s": "BTCUSDT",
        "c": c,
        "S": "BUY",
        "o": "LIMIT",
        "f": "GTX",
        "q": "0.025",
        "p": "61800.10",
        "ap": "0",
        "sp": "0",
        "x": x,
        "X": status,
        "i": 8886774,
        "l": "0",
        "z": "0",
        "L": "0",
        "n": "0",
        "N": "USDT",
        "T": 1_568_879_465_650,
        "t": 0,
        "m": False,
        "V": "EXPIRE_MAKER",
        "er": "0",
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": order | changes}


def report(x: str, status: str, c: str = OWN, **changes: Any) -> dict[str, Any]:
    """An executionReport of a sale of 1.5 at 2500."""
    order = {
        "e": "executionReport",
        "E": 1,
        "s": "ETHUSDT",
        "c": c,
        "S": "SELL",
        "o": "LIMIT_MAKER",
        "f": "GTC",
        "q": "1.50000000",
        "p": "2500.00000000",
        "C": "",
        "x": x,
        "X": status,
        "r": "NONE",
        "i": 12345678,
        "l": "0.00000000",
        "z": "0.00000000",
        "L": "0.00000000",
        "n": "0",
        "N": None,
        "T": 1_709_654_400_000,
        "t": -1,
        "w": True,
        "m": False,
    }
    return {"subscriptionId": 0, "event": order | changes}


TRADE = {"l": "0.010", "z": "0.015", "L": "61800.10", "t": 77, "m": True, "n": "-0.0123"}
SPOT_TRADE = {
    "l": "0.5000",
    "z": "1.5",
    "L": "2500.00",
    "t": 98765432,
    "m": True,
    "n": "0.001",
    "N": "BNB",
}


def event_of(stream: UserData, message: dict[str, Any]) -> Any:
    news = stream.read(message, AT)
    [event] = news.events
    assert news.foreign == ()
    assert not news.ended
    return event


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (futures("NEW", "NEW"), OrderOpened(AT, OWN)),
        (futures("CANCELED", "CANCELED", z="0.005"), OrderCancelled(AT, OWN, 5)),
        (futures("EXPIRED", "EXPIRED"), OrderExpired(AT, OWN, "expired")),
        (futures("EXPIRED", "EXPIRED", er="5"), OrderExpired(AT, OWN, "liquidation")),
        (futures("EXPIRED", "EXPIRED_IN_MATCH", z="0.001"), OrderExpired(AT, OWN, "self_trade", 1)),
        # Taken out by the venue, though it calls that a cancel.
        (futures("CANCELED", "CANCELED", er=7), OrderExpired(AT, OWN, "delisted")),
        (
            futures("AMENDMENT", "PARTIALLY_FILLED", q="0.020", p="61800.20", z="0.015"),
            Amended(AT, OWN, 618_002, 20, 15),
        ),
        (
            futures("TRADE", "PARTIALLY_FILLED", **TRADE),
            Filled(AT, OWN, "77", Side.BUY, 618_001, 10, True, 15, Decimal("-0.0123"), "USDT"),
        ),
    ],
)
def test_an_own_futures_order(message: dict[str, Any], event: Any) -> None:
    assert event_of(usdm, message) == event


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (report("NEW", "NEW"), OrderOpened(AT, OWN)),
        (report("CANCELED", "CANCELED"), OrderCancelled(AT, OWN)),
        # The cancel has an id of its own.
        (
            report("CANCELED", "CANCELED", c="E6APeyTJvkMv", C=OWN, z="0.5"),
            OrderCancelled(AT, OWN, 5_000),
        ),
        (
            report("EXPIRED", "EXPIRED", eR="EXCHANGE_CANCELED"),
            OrderExpired(AT, OWN, "exchange_canceled"),
        ),
        (report("EXPIRED", "EXPIRED"), OrderExpired(AT, OWN, "expired")),
        (
            report("REJECTED", "REJECTED", r="WOULD_MATCH_IMMEDIATELY"),
            OrderRejected(AT, OWN, "post_only"),
        ),
        (
            report("REJECTED", "REJECTED", r="INSUFFICIENT_BALANCES"),
            OrderRejected(AT, OWN, "balance"),
        ),
        (report("REJECTED", "REJECTED", r="OTHER"), OrderRejected(AT, OWN, "other")),
        (
            report("REPLACED", "PARTIALLY_FILLED", q="1.2", z="0.5"),
            Amended(AT, OWN, 250_000, 12_000, 5_000),
        ),
        (
            report("TRADE_PREVENTION", "EXPIRED_IN_MATCH", A="1.5", B="1.5"),
            OrderExpired(AT, OWN, "self_trade"),
        ),
        # A stranger's taker may take only a part away (mode DECREMENT).
        (
            report("TRADE_PREVENTION", "NEW", A="0.5", B="0.5"),
            Amended(AT, OWN, 250_000, 10_000, 0),
        ),
        (
            report("TRADE", "FILLED", **SPOT_TRADE),
            Filled(
                AT,
                OWN,
                "98765432",
                Side.SELL,
                250_000,
                5_000,
                True,
                15_000,
                Decimal("0.001"),
                "BNB",
            ),
        ),
    ],
)
def test_an_own_spot_order(message: dict[str, Any], event: Any) -> None:
    assert event_of(spot, message) == event


def test_a_fee_that_is_not_told_is_not_nothing() -> None:
    event = event_of(usdm, futures("TRADE", "FILLED", **TRADE | {"N": None}))
    assert (event.fee, event.fee_currency) == (None, "")
    message = futures("TRADE", "FILLED", **TRADE)
    del message["o"]["n"]
    assert event_of(usdm, message).fee is None


def test_the_venues_own_id_is_told() -> None:
    assert usdm.read(futures("NEW", "NEW"), AT).venue_ids == ((OWN, "8886774"),)
    assert usdm.read(futures("NEW", "NEW", c=FOREIGN), AT).venue_ids == ()


@pytest.mark.parametrize("wrap", ["bare", "event", "data"])
def test_messages_come_bare_or_wrapped(wrap: str) -> None:
    inner = futures("NEW", "NEW")
    message = {"bare": inner, "event": {"event": inner}, "data": {"stream": "x", "data": inner}}
    assert event_of(usdm, message[wrap]) == OrderOpened(AT, OWN)


def test_orders_of_another_symbol_are_none_of_ours() -> None:
    assert usdm.read(futures("NEW", "NEW", s="ETHUSDT"), AT) == NOTHING
    assert spot.read(report("TRADE", "FILLED", **SPOT_TRADE | {"s": "BTCUSDT"}), AT) == NOTHING


@pytest.mark.parametrize("order_id", [EARLIER, FOREIGN])
def test_orders_that_are_not_of_this_run_are_foreign(order_id: str) -> None:
    news = usdm.read(futures("NEW", "NEW", c=order_id), AT)
    found = OrderReport(
        order_id, "8886774", Status.OPEN, Side.BUY, 618_001, 25, 0, 1_568_879_465_650 * MS
    )
    assert news == StreamNews(foreign=(found,))


def test_a_fill_of_an_earlier_run_moves_the_position() -> None:
    news = usdm.read(futures("TRADE", "PARTIALLY_FILLED", EARLIER, **TRADE), AT)
    fill = FillRecovered(AT, EARLIER, "77", Side.BUY, 618_001, 10, True, Decimal("-0.0123"), "USDT")
    assert news == StreamNews(events=(fill,))


def test_a_strangers_fill_is_only_reported() -> None:
    news = usdm.read(futures("TRADE", "FILLED", FOREIGN, **TRADE | {"z": "0.025"}), AT)
    assert news.events == ()
    [found] = news.foreign
    assert (found.status, found.cumulative_lots) == (Status.FILLED, 25)


@pytest.mark.parametrize("order_id", ["autoclose-1568", "adl_autoclose", "settlement_autoclose-1"])
@pytest.mark.parametrize("x", ["CALCULATED", "TRADE"])
def test_a_forced_close_moves_the_position_and_is_foreign(order_id: str, x: str) -> None:
    # At a price that is not of the grid: the position moves all the same.
    message = futures(x, "FILLED", order_id, **TRADE | {"L": "61800.16", "z": "0.025"})
    news = usdm.read(message, AT)
    [fill] = news.events
    assert isinstance(fill, FillRecovered)
    assert (fill.order_id, fill.tick, fill.lots) == (order_id, 618_002, 10)
    [found] = news.foreign
    assert (found.order_id, found.status) == (order_id, Status.FILLED)


def test_a_forced_close_that_has_not_traded_yet() -> None:
    news = usdm.read(futures("NEW", "NEW", "autoclose-1568"), AT)
    assert news.events == ()
    assert len(news.foreign) == 1


def test_a_funding_payment() -> None:
    account = {
        "m": "FUNDING_FEE",
        "B": [
            {"a": "BNB", "wb": "1", "cw": "1", "bc": "9"},
            {"a": "USDT", "wb": "498.5", "cw": "498.5", "bc": "-0.50000000"},
        ],
        "P": [],
    }
    message = {"e": "ACCOUNT_UPDATE", "E": 1, "T": 1, "a": account}
    assert event_of(usdm, message) == Funded(AT, Decimal("-0.5"))

    isolated = account | {"P": [{"s": "BTCUSDT", "pa": "1"}]}
    assert event_of(usdm, message | {"a": isolated}) == Funded(AT, Decimal("-0.5"))
    elsewhere = account | {"P": [{"s": "ETHUSDT", "pa": "1"}]}
    assert usdm.read(message | {"a": elsewhere}, AT) == NOTHING
    for reason in ("ORDER", "DEPOSIT", "MARGIN_TRANSFER"):
        assert usdm.read(message | {"a": account | {"m": reason}}, AT) == NOTHING
    assert usdm.read(message | {"a": account | {"B": account["B"][:1]}}, AT) == NOTHING


@pytest.mark.parametrize(
    "message",
    [
        {"e": "listenKeyExpired", "E": 1, "listenKey": "x"},
        {"stream": "x", "data": {"e": "listenKeyExpired", "E": 1}},
        {"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": 1}},
    ],
)
def test_a_stream_says_that_it_ends(message: dict[str, Any]) -> None:
    assert usdm.read(message, AT) == ENDED


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"id": 1, "status": 200, "result": {"subscriptionId": 0}},
        {"e": "TRADE_LITE", "s": "BTCUSDT", "c": OWN},
        {"e": "ALGO_UPDATE", "o": {}},
        {"e": "outboundAccountPosition", "B": []},
        {"e": ["x"]},
    ],
)
def test_other_messages_say_nothing(message: dict[str, Any]) -> None:
    assert usdm.read(message, AT) == NOTHING


@pytest.mark.parametrize(
    "message",
    [
        {"e": "ORDER_TRADE_UPDATE"},
        {"e": "ORDER_TRADE_UPDATE", "o": None},
        {"e": "ACCOUNT_UPDATE", "a": {"m": "FUNDING_FEE", "B": [{"a": "USDT"}]}},
        {"e": "executionReport"},
        futures("NEW", "NEW", q=0.025),
        futures("AMENDMENT", "NEW", p="61800.15"),
        futures("NEW", "NEW", z="0.0001"),
        futures("TRADE", "FILLED", **TRADE | {"L": "61800.15"}),
        futures("TRADE", "FILLED", **TRADE | {"t": 0}),
        futures("TRADE", "FILLED", "autoclose-1", **TRADE | {"t": 0}),
        futures("TRADE", "FILLED", **TRADE | {"n": "x"}),
        futures("MOVED", "NEW"),
        futures("REJECTED", "REJECTED"),
        futures("NEW", "NEWISH", FOREIGN),
        futures("NEW", "NEW", S="LONG", c=FOREIGN),
        futures("TRADE", "FILLED", **TRADE | {"S": "LONG"}),
    ],
)
def test_what_cannot_be_read_raises(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each says something else
        usdm.read(message, AT)


# --- messages of the library ------------------------------------------------------------------


def golden(product: str, name: str) -> Any:
    folder = present(DATA / "wire" / "binance" / product / "user_data_json")
    return msgspec.json.decode((folder / f"{name}.json").read_bytes())


def test_every_message_of_the_library_can_be_read() -> None:
    for product, stream in (("spot", spot), ("usdm", usdm)):
        folder = present(DATA / "wire" / "binance" / product / "user_data_json")
        paths = sorted(folder.glob("*.json"))
        assert len(paths) >= 10
        for path in paths:
            stream.read(msgspec.json.decode(path.read_bytes()), AT)


def test_the_librarys_spot_orders() -> None:
    names = ("new", "trade", "canceled", "expired")
    found = [spot.read(golden("spot", f"execution_report_{name}"), AT).foreign for name in names]
    statuses = [one.status for [one] in found]
    assert statuses == [Status.OPEN, Status.FILLED, Status.CANCELLED, Status.EXPIRED]
    eth = UserData(
        msgspec.structs.replace(SPOT, symbol="ETHBTC", tick=Decimal("0.0000001")), PREFIX
    )
    [one] = eth.read(golden("spot", "execution_report_wrapped"), AT).foreign
    assert (one.order_id, one.lots) == ("mUvoqJxFIILMdfAW5iGSOW", 10_000)


@pytest.mark.parametrize(
    ("name", "lots", "status"),
    [
        ("calculated", 14, Status.FILLED),
        ("calculated_pending", 0, Status.OPEN),
        ("adl", 5, Status.FILLED),
        ("insurance", 20, Status.FILLED),
        ("settlement", 10, Status.FILLED),
    ],
)
def test_the_librarys_forced_closes(name: str, lots: int, status: Status) -> None:
    news = usdm.read(golden("usdm", f"order_update_{name}"), AT)
    assert [event.lots for event in news.events if isinstance(event, FillRecovered)] == (
        [lots] if lots else []
    )
    assert [one.status for one in news.foreign] == [status]
