"""What Binance lists: `exchangeInfo` of one symbol, and of products that do not have it.

Filters come from the `Instrument`; where it states no limit, that of the real BTCUSDT stands.
"""

from decimal import Decimal
from typing import Any, Final

import msgspec

from bot.domain.instrument import Instrument
from bot.venues.binance.limits import ORDERS_IN_10_S, ORDERS_LONG
from bot.venues.binance.publictext import decimals

TRADING: Final = "TRADING"
QTY_LOTS_MAX: Final = 900_000_000
TICKS_MAX: Final = 100_000_000
ORDERS_MAX: Final = 200
NOTIONAL_MAX: Final = Decimal(9_000_000)
# Lowest and highest limit price as a multiple of the reference price.
PERCENT_PRICE: Final = {"binance-spot": ("0.2", "5"), "binance-usdm": ("0.9500", "1.0500")}
NO_DELIVERY_MS: Final = 4_133_404_800_000  # how the venue dates a contract without an end
ONBOARD_MS: Final = 1_569_398_400_000

# What products without a listed symbol answer with an empty list.
LISTS: Final = (
    "ticker",
    "ticker/24hr",
    "ticker/price",
    "ticker/bookTicker",
    "premiumIndex",
    "margin/allPairs",
    "margin/isolated/allPairs",
    "capital/config/getall",
)


def exchange_info(
    now: int, weight_max: int, instrument: Instrument | None, status: str = TRADING
) -> bytes:
    """GET exchangeInfo at `now` (ms); None lists nothing."""
    limits = [("REQUEST_WEIGHT", "MINUTE", 1, weight_max)]
    symbols = []
    if instrument is not None:
        spot = instrument.venue == "binance-spot"
        longer = "DAY" if spot else "MINUTE"
        limits.append(("ORDERS", "SECOND", 10, ORDERS_IN_10_S[instrument.venue]))
        limits.append(("ORDERS", longer, 1, ORDERS_LONG[instrument.venue]))
        symbol = _pair(instrument) if spot else _perpetual(instrument)
        symbols.append(symbol | {"status": status})
    names = ("rateLimitType", "interval", "intervalNum", "limit")
    return msgspec.json.encode(
        {
            "timezone": "UTC",
            "serverTime": now,
            "rateLimits": [dict(zip(names, limit, strict=True)) for limit in limits],
            "exchangeFilters": [],
            "symbols": symbols,
        }
    )


def nothing_listed(name: str, now: int, weight_max: int) -> bytes | None:
    """What endpoint `name` of a product without the symbol answers; None where it cannot."""
    if name == "ping":
        return b"{}"
    if name == "time":
        return b'{"serverTime":%d}' % now
    if name == "exchangeInfo":
        return exchange_info(now, weight_max, None)
    return b"[]" if name in LISTS else None


def _steps(instrument: Instrument, places: int | None) -> list[dict[str, str]]:
    """PRICE_FILTER, LOT_SIZE and MARKET_LOT_SIZE; `places` None writes steps as they are."""

    def text(value: Decimal) -> str:
        return f"{value:f}" if places is None else f"{value:.{places}f}"

    sizes = {
        "minQty": text(instrument.quantity(instrument.min_qty_lots)),
        "maxQty": text(instrument.quantity(QTY_LOTS_MAX)),
        "stepSize": text(instrument.lot),
    }
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": text(instrument.tick),
            "maxPrice": text(instrument.price(TICKS_MAX)),
            "tickSize": text(instrument.tick),
        },
        {"filterType": "LOT_SIZE", **sizes},
        {"filterType": "MARKET_LOT_SIZE", **sizes},
    ]


def _pair(instrument: Instrument) -> dict[str, Any]:
    down, up = PERCENT_PRICE[instrument.venue]
    return {
        "symbol": instrument.symbol,
        "status": TRADING,
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "quoteOrderQtyMarketAllowed": False,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            *_steps(instrument, 8),
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": up,
                "bidMultiplierDown": down,
                "askMultiplierUp": up,
                "askMultiplierDown": down,
                "avgPriceMins": 5,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": f"{instrument.min_notional:.8f}",
                "applyMinToMarket": True,
                "maxNotional": f"{NOTIONAL_MAX:.8f}",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": ORDERS_MAX},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": [
            "EXPIRE_TAKER",
            "EXPIRE_MAKER",
            "EXPIRE_BOTH",
        ],
    }


def _perpetual(instrument: Instrument) -> dict[str, Any]:
    down, up = PERCENT_PRICE[instrument.venue]
    return {
        "symbol": instrument.symbol,
        "pair": instrument.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": NO_DELIVERY_MS,
        "onboardDate": ONBOARD_MS,
        "status": TRADING,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": decimals(instrument.tick),
        "quantityPrecision": decimals(instrument.lot),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": [
            *_steps(instrument, None),
            {"filterType": "MAX_NUM_ORDERS", "limit": ORDERS_MAX},
            {"filterType": "MIN_NOTIONAL", "notional": f"{instrument.min_notional:f}"},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": up,
                "multiplierDown": down,
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
