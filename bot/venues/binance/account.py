"""What Binance answers about the account and the symbol's rules. Pure; ValueError for no answer.

Sources: "Exchange information", "Account information", "Query Commission Rates" (spot);
"Exchange Information", "Account Information V3", "User Commission Rate" (USD-M); "Get API Key
Permission" (wallet); "Symbol order book ticker", "Get Current Position Mode", "Symbol
Configuration".
"""

from decimal import ROUND_CEILING, Decimal
from typing import Any

import msgspec

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_MS
from bot.venues.binance.amounts import decimal_of, plain
from bot.venues.binance.orders import SELF_TRADE
from bot.venues.orderentry import Holdings, NotTrading, Permissions


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: str = ""
    step_size: str = ""
    min_qty: str = ""
    min_notional: str = ""
    notional: str = ""


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]
    order_types: list[str]
    time_in_force: list[str] = []
    allowed_self_trade_prevention_modes: list[str] | None = None


class _Info(msgspec.Struct):
    # The other symbols of a USD-M answer may be of kinds that nobody has seen yet.
    symbols: list[dict[str, Any]]


class _Balance(msgspec.Struct):
    asset: str
    free: str
    locked: str


class _SpotAccount(msgspec.Struct):
    balances: list[_Balance]


class _Asset(msgspec.Struct, rename="camel"):
    asset: str
    available_balance: str


class _Position(msgspec.Struct, rename="camel"):
    symbol: str
    position_side: str
    position_amt: str


class _FuturesAccount(msgspec.Struct):
    assets: list[_Asset]
    positions: list[_Position]


class _Rates(msgspec.Struct):
    maker: str
    taker: str
    buyer: str
    seller: str


class _SpotFees(msgspec.Struct, rename="camel"):
    symbol: str
    standard_commission: _Rates
    special_commission: _Rates
    tax_commission: _Rates


class _FuturesFees(msgspec.Struct, rename="camel"):
    symbol: str
    maker_commission_rate: str
    taker_commission_rate: str


class _Restrictions(msgspec.Struct, rename="camel"):
    ip_restrict: bool
    enable_withdrawals: bool
    enable_internal_transfer: bool
    permits_universal_transfer: bool
    enable_spot_and_margin_trading: bool
    enable_futures: bool


class _Touch(msgspec.Struct, rename="camel"):
    symbol: str
    bid_price: str
    ask_price: str


class _Mode(msgspec.Struct, rename="camel"):
    dual_side_position: bool


class _Config(msgspec.Struct):
    symbol: str
    leverage: int


class AccountAnswers:
    """Reads the answers about one symbol and the account that trades it."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self._spot = instrument.venue == "binance-spot"

    def read_server_time(self, body: Any) -> int:
        """The venue's clock, in ns."""
        return msgspec.convert(body, _Time).server_time * NS_PER_MS

    def read_filters(self, body: Any) -> Instrument:
        """The symbol as listed now.

        Raises ValueError, in words for a user, where the symbol is not listed or refuses
        post-only orders or our self-trade prevention; NotTrading where it does not trade.
        """
        name = self.instrument.symbol
        rows = [row for row in msgspec.convert(body, _Info).symbols if row.get("symbol") == name]
        if not rows:
            raise ValueError(f"{self.instrument.venue} does not list {name}")
        symbol = msgspec.convert(rows[0], _Symbol)
        if symbol.status != "TRADING":
            raise NotTrading(f"{name} does not trade: its status is {symbol.status}")
        post_only = (
            "LIMIT_MAKER" in symbol.order_types if self._spot else "GTX" in symbol.time_in_force
        )
        if not post_only:
            raise ValueError(f"{name} takes no post-only orders")
        modes = symbol.allowed_self_trade_prevention_modes
        if modes is not None and SELF_TRADE not in modes:
            raise ValueError(f"{name} does not allow self-trade prevention by {SELF_TRADE}")
        return self._instrument(symbol)

    def read_holdings(self, body: Any) -> Holdings:
        """What the account holds of the symbol.

        USD-M lists only symbols with a position or an open order: an absent one is flat. Raises
        ValueError in hedge mode, where one symbol has two positions.
        """
        if self._spot:
            return self._spot_holdings(msgspec.convert(body, _SpotAccount))
        account = msgspec.convert(body, _FuturesAccount)
        position = Decimal(0)
        for row in account.positions:
            if row.symbol == self.instrument.symbol:
                if row.position_side != "BOTH":
                    raise ValueError("the account is in hedge mode; one-way mode is needed")
                position += decimal_of(row.position_amt)
        quote = self.instrument.quote
        free = [decimal_of(row.available_balance) for row in account.assets if row.asset == quote]
        return Holdings(position, sum(free, Decimal(0)))

    def read_fees(self, body: Any) -> Fees:
        """The account's rates for the symbol.

        On spot the sum of standard, special and tax commission ("Commission FAQ"), of buying
        and selling the dearer one, without the discount for paying in another currency.
        """
        if not self._spot:
            futures = msgspec.convert(body, _FuturesFees)
            self._check_symbol(futures.symbol)
            maker, taker = futures.maker_commission_rate, futures.taker_commission_rate
            return Fees(decimal_of(maker), decimal_of(taker))
        fees = msgspec.convert(body, _SpotFees)
        self._check_symbol(fees.symbol)
        parts = (fees.standard_commission, fees.special_commission, fees.tax_commission)
        dearer = max(
            sum((decimal_of(part.buyer) for part in parts), Decimal(0)),
            sum((decimal_of(part.seller) for part in parts), Decimal(0)),
        )
        return Fees(
            maker=sum((decimal_of(part.maker) for part in parts), dearer),
            taker=sum((decimal_of(part.taker) for part in parts), dearer),
        )

    def read_permissions(self, body: Any) -> Permissions:
        """What the key may do; a permission that the answer does not name raises ValueError."""
        key = msgspec.convert(body, _Restrictions)
        return Permissions(
            can_trade=key.enable_spot_and_margin_trading if self._spot else key.enable_futures,
            can_withdraw=key.enable_withdrawals,
            can_transfer=key.enable_internal_transfer or key.permits_universal_transfer,
            ip_restricted=key.ip_restrict,
        )

    def read_touch(self, body: Any) -> tuple[Decimal, Decimal]:
        """Best bid and best ask; raises ValueError where a side is empty."""
        touch = msgspec.convert(body, _Touch)
        self._check_symbol(touch.symbol)
        bid, ask = decimal_of(touch.bid_price), decimal_of(touch.ask_price)
        if bid <= 0 or ask <= 0:
            raise ValueError(f"{touch.symbol} has no price: a side of its book is empty")
        return bid, ask

    def read_one_way(self, body: Any) -> bool:
        """False in hedge mode, where a symbol has two positions."""
        return not msgspec.convert(body, _Mode).dual_side_position

    def read_leverage(self, body: Any) -> int:
        """The symbol's leverage, 1 or more."""
        rows = msgspec.convert(body, list[_Config])
        found = [row.leverage for row in rows if row.symbol == self.instrument.symbol]
        if len(found) != 1 or found[0] < 1:
            raise ValueError(f"no leverage is said of {self.instrument.symbol}")
        return found[0]

    def _spot_holdings(self, account: _SpotAccount) -> Holdings:
        base, quote = self.instrument.base, self.instrument.quote
        free = {row.asset: decimal_of(row.free) for row in account.balances}
        locked = {row.asset: decimal_of(row.locked) for row in account.balances}
        base_free = free.get(base, Decimal(0))
        return Holdings(
            position=base_free + locked.get(base, Decimal(0)),
            quote=free.get(quote, Decimal(0)),
            base_free=base_free,
        )

    def _instrument(self, symbol: _Symbol) -> Instrument:
        filters = {one.filter_type: one for one in symbol.filters}
        try:
            prices, sizes = filters["PRICE_FILTER"], filters["LOT_SIZE"]
        except KeyError as missing:
            raise ValueError(f"{symbol.symbol} is listed without {missing}") from None
        tick, lot = _step(prices.tick_size), _step(sizes.step_size)
        lots = decimal_of(sizes.min_qty) / lot
        # Spot has either of two filters, USD-M one whose member is named otherwise.
        value = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or _Filter("")
        return Instrument(
            venue=self.instrument.venue,
            symbol=symbol.symbol,
            base=symbol.base_asset,
            quote=symbol.quote_asset,
            tick=tick,
            lot=lot,
            min_qty_lots=max(1, int(lots.to_integral_value(ROUND_CEILING))),
            min_notional=decimal_of(plain(decimal_of(value.min_notional or value.notional or "0"))),
            linear=self.instrument.linear,
        )

    def _check_symbol(self, symbol: str) -> None:
        if symbol != self.instrument.symbol:
            raise ValueError(f"an answer about {symbol}, not {self.instrument.symbol}")


def _step(text: str) -> Decimal:
    value = decimal_of(text)
    if value <= 0:
        raise ValueError(f"{text} is no step of a price or quantity")
    return Decimal(plain(value))
