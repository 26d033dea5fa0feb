"""Filters and first-tier fees of common symbols, for runs without a venue to ask.

Sources: the venues' public `exchangeInfo` (PRICE_FILTER, LOT_SIZE, NOTIONAL or
MIN_NOTIONAL) and fee pages for accounts without volume (VIP 0). Venues change both;
a running bot asks the venue, and a config's `instrument` and `fees` win over this table.
"""

import difflib
from decimal import Decimal
from typing import Final

from bot.domain.instrument import Fees, Instrument
from bot.modes.yamlsource import ConfigError, shown

INSTRUMENTS: Final = (
    Instrument(
        venue="binance-spot",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=Decimal("0.01"),
        lot=Decimal("0.00001"),
        min_notional=Decimal(5),
    ),
    Instrument(
        venue="binance-spot",
        symbol="ETHUSDT",
        base="ETH",
        quote="USDT",
        tick=Decimal("0.01"),
        lot=Decimal("0.0001"),
        min_notional=Decimal(5),
    ),
    # The 100 and 20 USDT are MIN_NOTIONAL of GET /fapi/v1/exchangeInfo; a smaller order
    # is refused with error -4164, "Order's notional must be no smaller than 100".
    Instrument(
        venue="binance-usdm",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=Decimal("0.10"),
        lot=Decimal("0.001"),
        min_notional=Decimal(100),
    ),
    Instrument(
        venue="binance-usdm",
        symbol="ETHUSDT",
        base="ETH",
        quote="USDT",
        tick=Decimal("0.01"),
        lot=Decimal("0.001"),
        min_notional=Decimal(20),
    ),
    # One lot is one contract of 100 USD; COIN-M knows no least notional.
    Instrument(
        venue="binance-coinm",
        symbol="BTCUSD_PERP",
        base="BTC",
        quote="USD",
        tick=Decimal("0.1"),
        lot=Decimal(1),
        linear=False,
    ),
)

FEES: Final = {
    "binance-spot": Fees(maker=Decimal("0.0010"), taker=Decimal("0.0010")),
    "binance-usdm": Fees(maker=Decimal("0.0002"), taker=Decimal("0.0005")),
    "binance-coinm": Fees(maker=Decimal("0.0002"), taker=Decimal("0.0005")),
}

_INVERSE: Final = frozenset({"binance-coinm"})
_QUOTES: Final = ("FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")


def known(venue: str, symbol: str) -> Instrument | None:
    """Look a symbol up in the bundled table."""
    for instrument in INSTRUMENTS:
        if (instrument.venue, instrument.symbol) == (venue, symbol):
            return instrument
    return None


def find(
    venue: str, symbol: str, *, tick: Decimal | None = None, lot: Decimal | None = None
) -> Instrument:
    """Describe a symbol; `tick` and `lot` win over the table.

    Raises ConfigError, naming the flags, when neither they nor the table say enough.
    """
    for flag, step in (("--tick", tick), ("--lot", lot)):
        if step is not None and not (step.is_finite() and step > 0):
            raise ConfigError(f"{flag} is {step}, but should be greater than 0")
    entry = known(venue, symbol)
    if entry is None:
        if tick is None or lot is None:
            raise ConfigError(unknown_symbol(venue, symbol))
        base, quote = currencies(symbol)
        return Instrument(venue, symbol, base, quote, tick, lot, linear=is_linear(venue))
    return Instrument(
        venue,
        symbol,
        entry.base,
        entry.quote,
        entry.tick if tick is None else tick,
        entry.lot if lot is None else lot,
        entry.min_qty_lots,
        entry.min_notional,
        entry.linear,
    )


def unknown_symbol(venue: str, symbol: str) -> str:
    """Say, without a closing stop, how to trade a symbol that the table does not know."""
    there = [entry.symbol for entry in INSTRUMENTS if entry.venue == venue]
    close = difflib.get_close_matches(symbol, there, n=1, cutoff=0.7)
    near = f" (did you mean {close[0]}?)" if close else ""
    return (
        f"no filters are known for {shown(symbol)} on {venue}{near}, "
        "give --tick and --lot, or instrument.tick and instrument.lot in a config"
    )


def currencies(symbol: str) -> tuple[str, str]:
    """Split a symbol into base and quote by the usual quote currencies; quote may be empty."""
    pair = symbol.partition("_")[0]
    for quote in _QUOTES:
        if pair.endswith(quote) and pair != quote:
            return pair.removesuffix(quote), quote
    return pair, ""


def is_linear(venue: str) -> bool:
    """Tell whether the venue's contracts pay their PnL in the quote currency."""
    return venue not in _INVERSE
