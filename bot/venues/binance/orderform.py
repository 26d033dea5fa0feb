"""A new order as a client of Binance words it, server side: parameters, filters, errors.

Sources: "Filters" and "New order" of the spot documents, "New Order" and "Error Codes" of the
USD-M documents; the numbers are those of the listing. Raises Refused for what the venue refuses.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from bot.domain.account import AccountOrder, InForce, Kind, NewOrder, SelfTrade
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.listing import PERCENT_PRICE, QTY_LOTS_MAX, TICKS_MAX
from bot.venues.binance.publictext import SPOT, decimals
from bot.venues.binance.reply import DIGITS, DIGITS_LEGAL, Refused, illegal, mandatory, missing

CLIENT_ID: Final = re.compile(r"[\.A-Z\:/a-z0-9_-]{1,36}")
DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")

# Errors for `found`, as (code, words).
NO_ORDER: Final = (-2013, "Order does not exist.")
UNKNOWN_ORDER: Final = (-2011, "Unknown order sent.")

_FLAGS: Final = {"true": True, "false": False}


class OrderForm:
    """Reads orders of one symbol."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.spot = instrument.venue == SPOT

    def read(self, params: Mapping[str, str], mark: int, client_id: str) -> NewOrder:
        """POST order at a mark price in ticks, 0 if there is none.

        `client_id` is for an order that names none.
        """
        self.symbol(params)
        side = self.side(params)
        kind, in_force = self._kind(params)
        lots = self.lots(params, "quantity")
        tick = 0
        if kind is Kind.MARKET:
            if "price" in params:
                raise Refused(-1106, "Parameter 'price' sent when not required.")
        else:
            tick = self.tick(params, side, mark)
        reduce_only = self._reduce_only(params)
        self.notional((tick or mark) * lots, reduce_only=reduce_only)
        return NewOrder(
            side,
            tick,
            lots,
            self.client_id(params, "newClientOrderId", client_id),
            kind,
            in_force,
            self._self_trade(params),
            reduce_only,
        )

    def symbol(self, params: Mapping[str, str]) -> None:
        """It must be the one that is listed."""
        if not params.get("symbol"):
            raise missing("symbol")
        if params["symbol"] != self.instrument.symbol:
            raise Refused(-1121, "Invalid symbol.")

    def found(
        self,
        params: Mapping[str, str],
        find: Callable[[int | None, str | None], AccountOrder | None],
        code: int,
        words: str,
    ) -> AccountOrder:
        """The order that a request names, its id before its client id; else this error."""
        self.symbol(params)
        order_id, client_id = params.get("orderId"), params.get("origClientOrderId")
        if not order_id and not client_id:
            raise Refused(
                -1102,
                "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
            )
        if order_id and DIGITS.fullmatch(order_id) is None:
            raise illegal("orderId", DIGITS_LEGAL)
        order = find(int(order_id) if order_id else None, client_id)
        if order is None:
            raise Refused(code, words)
        return order

    def side(self, params: Mapping[str, str]) -> Side:
        """BUY or SELL."""
        match params.get("side", ""):
            case "BUY":
                return Side.BUY
            case "SELL":
                return Side.SELL
            case "":
                raise missing("side")
            case _:
                raise Refused(-1117, "Invalid side.")

    def client_id(self, params: Mapping[str, str], name: str, default: str) -> str:
        """A client id, where one is given."""
        text = params.get(name)
        if text is None:
            return default
        if len(text) > 36 and not self.spot:
            raise Refused(-4015, "Client order id length should not be more than 36 chars.")
        if CLIENT_ID.fullmatch(text) is None:
            raise illegal(name, "^[\\.A-Z\\:/a-z0-9_-]{1,36}$")
        return text

    def _kind(self, params: Mapping[str, str]) -> tuple[Kind, InForce]:
        text = params.get("type", "")
        if not text:
            raise missing("type")
        known = (Kind.LIMIT, Kind.MARKET, *((Kind.LIMIT_MAKER,) if self.spot else ()))
        if text not in known:
            raise Refused(-1116, "Invalid orderType.")
        kind = Kind(text)
        given = params.get("timeInForce")
        if kind is not Kind.LIMIT:
            if given is not None:
                raise Refused(-1106, "Parameter 'timeInForce' sent when not required.")
            return kind, InForce.GTC
        if not given:
            raise missing("timeInForce")
        allowed = (InForce.GTC, InForce.IOC, InForce.FOK, *(() if self.spot else (InForce.GTX,)))
        if given not in allowed:
            raise Refused(-1115, "Invalid timeInForce.")
        return kind, InForce(given)

    def lots(self, params: Mapping[str, str], name: str) -> int:
        """A quantity that passes LOT_SIZE."""
        quantity = number(params, name)
        instrument = self.instrument
        lots, rest = divmod(quantity, instrument.lot)
        if self.spot:
            whole = rest == 0 and instrument.min_qty_lots <= lots <= QTY_LOTS_MAX
            if not whole:
                raise filter_failure("LOT_SIZE")
            return int(lots)
        if quantity <= 0:
            raise Refused(-4003, "Quantity less than or equal to zero.")
        if rest:
            raise _off_step(quantity, instrument.lot, -4023, "Qty not increased by step size.")
        if lots < instrument.min_qty_lots:
            raise Refused(-4004, "Quantity less than min quantity.")
        if lots > QTY_LOTS_MAX:
            raise Refused(-4005, "Quantity greater than max quantity.")
        return int(lots)

    def tick(self, params: Mapping[str, str], side: Side, mark: int) -> int:
        """A price that passes PRICE_FILTER and PERCENT_PRICE."""
        price = number(params, "price")
        instrument = self.instrument
        ticks, rest = divmod(price, instrument.tick)
        down, up = (Decimal(bound) * mark for bound in PERCENT_PRICE[instrument.venue])
        if self.spot:
            if rest or not 1 <= ticks <= TICKS_MAX:
                raise filter_failure("PRICE_FILTER")
            if mark and not down <= ticks <= up:
                raise filter_failure("PERCENT_PRICE_BY_SIDE")
            return int(ticks)
        if price <= 0:
            raise Refused(-4001, "Price less than or equal to zero.")
        if rest:
            raise _off_step(price, instrument.tick, -4014, "Price not increased by tick size.")
        if ticks > TICKS_MAX:
            raise Refused(-4002, "Price greater than max price.")
        # The multipliers bound buys from above and sells from below (PERCENT_PRICE).
        if mark and side is Side.BUY and ticks > up:
            raise Refused(-4016, f"Limit price can't be higher than {self._price(up)}.")
        if side is Side.SELL and ticks < down:
            raise Refused(-4024, f"Limit price can't be lower than {self._price(down)}.")
        return int(ticks)

    def _price(self, ticks: Decimal) -> Decimal:
        return (ticks * self.instrument.tick).quantize(self.instrument.tick)

    def notional(self, value: int, *, reduce_only: bool = False) -> None:
        """A value in ticks x lots that passes the least notional."""
        instrument = self.instrument
        if value * instrument.tick * instrument.lot >= instrument.min_notional:
            return
        if self.spot:
            raise filter_failure("NOTIONAL")
        if not reduce_only:
            raise Refused(
                -4164,
                f"Order's notional must be no smaller than {instrument.min_notional:f} "
                "(unless you choose reduce only).",
            )

    def _self_trade(self, params: Mapping[str, str]) -> SelfTrade:
        default = SelfTrade.EXPIRE_MAKER
        text = params.get("selfTradePreventionMode", default)
        if text not in list(SelfTrade):
            raise Refused(-1130, "Data sent for parameter 'selfTradePreventionMode' is not valid.")
        return SelfTrade(text)

    def _reduce_only(self, params: Mapping[str, str]) -> bool:
        if self.spot:
            return False
        if params.get("positionSide", "BOTH") != "BOTH":
            raise Refused(-4061, "Order's position side does not match user's setting.")
        text = params.get("reduceOnly", "false").lower()
        if text not in _FLAGS:
            raise Refused(-1130, "Data sent for parameter 'reduceOnly' is not valid.")
        return _FLAGS[text]

    def __repr__(self) -> str:
        return f"<OrderForm {self.instrument.symbol}>"


def number(params: Mapping[str, str], name: str) -> Decimal:
    """A decimal parameter."""
    return Decimal(mandatory(params, name, DECIMAL, "^([0-9]{1,20})(\\.[0-9]{1,20})?$"))


def filter_failure(name: str) -> Refused:
    """The spot error of a filter."""
    return Refused(-1013, f"Filter failure: {name}")


def _off_step(value: Decimal, step: Decimal, code: int, words: str) -> Refused:
    """USD-M looks at the decimals before it looks at the step."""
    if decimals(value.normalize()) > decimals(step):
        return Refused(-1111, "Precision is over the maximum defined for this asset.")
    return Refused(code, words)
