from decimal import Decimal

import pytest

from bot.modes import instruments
from bot.modes.instruments import FEES
from bot.modes.yamlsource import ConfigError


@pytest.mark.parametrize(
    ("venue", "symbol", "tick", "lot", "min_notional", "linear"),
    [
        ("binance-spot", "BTCUSDT", "0.01", "0.00001", 5, True),
        ("binance-spot", "ETHUSDT", "0.01", "0.0001", 5, True),
        ("binance-usdm", "BTCUSDT", "0.10", "0.001", 100, True),
        ("binance-usdm", "ETHUSDT", "0.01", "0.001", 20, True),
        ("binance-coinm", "BTCUSD_PERP", "0.1", "1", 0, False),
    ],
)
def test_the_table(venue, symbol, tick, lot, min_notional, linear):
    entry = instruments.find(venue, symbol)
    # As text, because the decimals of the tick are those of a printed price.
    assert (str(entry.tick), str(entry.lot)) == (tick, lot)
    assert (entry.min_notional, entry.linear) == (min_notional, linear)
    assert (entry.base, entry.quote) == instruments.currencies(symbol)
    assert entry.min_qty_lots == 1
    assert entry == instruments.known(venue, symbol)


def test_the_table_has_no_more_than_was_checked():
    assert len(instruments.INSTRUMENTS) == 5
    assert len({(entry.venue, entry.symbol) for entry in instruments.INSTRUMENTS}) == 5


def test_first_tier_fees():
    rates = {venue: (fees.maker * 10_000, fees.taker * 10_000) for venue, fees in FEES.items()}
    assert rates == {"binance-spot": (10, 10), "binance-usdm": (2, 5), "binance-coinm": (2, 5)}
    assert set(FEES) == {entry.venue for entry in instruments.INSTRUMENTS}


def test_flags_win_over_the_table():
    entry = instruments.find("binance-usdm", "BTCUSDT", tick=Decimal("0.5"))
    assert (entry.tick, entry.lot, entry.min_notional) == (Decimal("0.5"), Decimal("0.001"), 100)
    entry = instruments.find("binance-usdm", "BTCUSDT", lot=Decimal("0.01"))
    assert (entry.tick, entry.lot) == (Decimal("0.10"), Decimal("0.01"))


def test_flags_describe_an_unknown_symbol():
    entry = instruments.find("binance-spot", "XRPUSDT", tick=Decimal("0.0001"), lot=Decimal("0.1"))
    assert (entry.base, entry.quote, entry.linear) == ("XRP", "USDT", True)
    assert (entry.tick, entry.lot) == (Decimal("0.0001"), Decimal("0.1"))
    inverse = instruments.find("binance-coinm", "ETHUSD_PERP", tick=Decimal(1), lot=Decimal(1))
    assert (inverse.base, inverse.quote, inverse.linear) == ("ETH", "USD", False)


@pytest.mark.parametrize(
    "steps", [{}, {"tick": Decimal("0.1")}, {"lot": Decimal("0.1")}], ids=["none", "tick", "lot"]
)
def test_an_unknown_symbol_names_both_flags(steps):
    with pytest.raises(ConfigError) as caught:
        instruments.find("binance-spot", "BTCUSDC", **steps)
    sentence = str(caught.value)
    assert "--tick" in sentence
    assert "--lot" in sentence
    assert "'BTCUSDC' on binance-spot (did you mean BTCUSDT?)" in sentence


@pytest.mark.parametrize("step", ["0", "-1", "NaN", "Infinity"])
def test_a_step_that_is_no_step_is_refused(step):
    with pytest.raises(ConfigError, match=r"--tick is .* greater than 0"):
        instruments.find("binance-spot", "BTCUSDT", tick=Decimal(step))
    with pytest.raises(ConfigError, match=r"--lot is .* greater than 0"):
        instruments.find("binance-spot", "BTCUSDT", lot=Decimal(step))


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("ETHBTC", ("ETH", "BTC")),
        ("BTCUSD_250328", ("BTC", "USD")),
        ("BTCFDUSD", ("BTC", "FDUSD")),
        ("USDT", ("USDT", "")),
        ("ABC", ("ABC", "")),
    ],
)
def test_currencies(symbol, pair):
    assert instruments.currencies(symbol) == pair
