"""The whole language in one object: what is asked can be answered, and says whose it is."""

import inspect
from decimal import Decimal

import pytest

from bot.domain.decisions import Place
from bot.domain.events import OrderOpened
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import OrderCodec, OrderReport, Priority, Verdict

SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"))
COINM = Instrument("binance-coinm", "BTCUSD_PERP", "BTC", "USD", Decimal("0.1"), Decimal(1))


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_every_word_of_the_protocol_is_there(instrument: Instrument) -> None:
    codec = order_codec(instrument, "mm1a2b3c")
    words = [name for name, _ in inspect.getmembers(OrderCodec, inspect.isfunction)]
    for name in words:
        if name.startswith("_"):
            continue
        wanted = list(inspect.signature(getattr(OrderCodec, name)).parameters)[1:]
        assert list(inspect.signature(getattr(codec, name)).parameters) == wanted
    assert codec.capabilities.dead_man is (instrument is USDM)


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_an_order_comes_back_as_it_was_sent(instrument: Instrument) -> None:
    codec = order_codec(instrument, "mm1a2b3c")
    place = Place("mm1a2b3c-1", Side.SELL, 6_180_001, 25, 0)
    sent = codec.place(place).params
    answer = {
        "symbol": sent["symbol"],
        "orderId": 5,
        "clientOrderId": sent["newClientOrderId"],
        "price": sent["price"],
        "origQty": sent["quantity"],
        "executedQty": "0",
        "status": "NEW",
        "side": sent["side"],
    }
    [report] = codec.read_placed(answer)
    assert isinstance(report, OrderReport)
    assert (report.order_id, report.side, report.tick, report.lots) == (
        place.order_id,
        place.side,
        place.tick,
        place.lots,
    )


def test_the_stream_knows_the_run() -> None:
    update = {"s": "BTCUSDT", "c": "mm1a2b3c-1", "S": "BUY", "q": "1", "p": "5", "x": "NEW"}
    update |= {"X": "NEW", "l": "0", "z": "0", "L": "0"}
    message = {"e": "ORDER_TRADE_UPDATE", "o": update | {"i": 5, "t": 0, "m": False, "T": 1}}
    own = order_codec(USDM, "mm1a2b3c").read_stream(message, 9)
    assert own.events == (OrderOpened(9, "mm1a2b3c-1"),)
    other = order_codec(USDM, "mm1a2b3d").read_stream(message, 9)
    assert other.events == ()
    assert [one.order_id for one in other.foreign] == ["mm1a2b3c-1"]


def test_refusals_are_those_of_the_product() -> None:
    spot, usdm = order_codec(SPOT, "mm1a2b3c"), order_codec(USDM, "mm1a2b3c")
    assert spot.refusal(400, -5022, "").verdict is Verdict.UNKNOWN
    assert usdm.refusal(400, -5022, "").verdict is Verdict.REJECTED
    assert usdm.refusal(400, -5022, "", Priority.AMEND).verdict is Verdict.UNKNOWN
    assert usdm.refusal(429, None, "", retry_after_s=3.0).limited_s == 3.0


def test_what_cannot_be_traded_is_refused() -> None:
    with pytest.raises(ValueError, match="binance-coinm"):
        order_codec(COINM, "mm1a2b3c")
    with pytest.raises(ValueError, match="six hex digits"):
        order_codec(USDM, "mm")


def test_it_says_what_it_is() -> None:
    assert (
        repr(order_codec(USDM, "mm1a2b3c")) == "<BinanceOrderCodec binance-usdm BTCUSDT mm1a2b3c>"
    )
