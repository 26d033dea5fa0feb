"""Orders, trades, balances and positions as Binance's private REST API writes them.

Spot states numbers with eight decimals, USD-M prices and quantities with those of tick and lot
(account and trade endpoints of each product's documents; member order as received).
"""

from decimal import Decimal
from typing import Any, Final

from bot.domain.account import (
    AccountOrder,
    AccountTrade,
    Income,
    InForce,
    Kind,
    Margin,
    Position,
    Refusal,
)
from bot.domain.instrument import Fees
from bot.domain.units import Side
from bot.venues.binance.publictext import PublicText
from bot.venues.binance.reply import Refused

Member = dict[str, Any]

MAINTENANCE: Final = Decimal("0.0040")  # of one bracket; the accounts margin by the same
NOTIONAL_CAP: Final = 50_000_000
LEVERAGE_MAX: Final = 125

_DUPLICATE: Final = (-2010, "Duplicate order sent.")
_SPOT: Final = {
    Refusal.INSUFFICIENT: (-2010, "Account has insufficient balance for requested action."),
    Refusal.DUPLICATE: _DUPLICATE,
    Refusal.WOULD_MATCH: (-2010, "Order would immediately match and take."),
    Refusal.UNFILLABLE: (-2010, "Order could not be filled immediately."),
    Refusal.TOO_MANY: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Refusal.NOT_REDUCING: (-2010, "This action is disabled on this account."),
    Refusal.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Refusal.NOT_SMALLER: (
        -2038,
        "The requested action would change no state; rejecting.",
    ),
    Refusal.UNCHANGED: (-2038, "The requested action would change no state; rejecting."),
    Refusal.TOO_OFTEN: (-2010, "This action is disabled on this account."),
    Refusal.EMPTY_BOOK: (-2010, "Market has no depth."),
}
_USDM: Final = {
    Refusal.INSUFFICIENT: (-2019, "Margin is insufficient."),
    Refusal.DUPLICATE: (-4116, "ClientOrderId is duplicated."),
    Refusal.WOULD_MATCH: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. "
        "The order will not be recorded in the order history",
    ),
    Refusal.UNFILLABLE: (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected. "
        "The order will not be recorded in the order history",
    ),
    Refusal.TOO_MANY: (-2025, "Reach max open order limit."),
    Refusal.NOT_REDUCING: (-2022, "ReduceOnly Order is rejected."),
    Refusal.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Refusal.NOT_SMALLER: (-4003, "Quantity less than or equal to zero."),
    Refusal.UNCHANGED: (-5027, "No need to modify the order."),
    Refusal.TOO_OFTEN: (-5026, "Exceed maximum modify order limit."),
    Refusal.EMPTY_BOOK: (-2020, "Unable to fill."),
}


def refused(refusal: Refusal, *, spot: bool) -> Refused:
    """The venue's error for an account's refusal."""
    return Refused(*(_SPOT if spot else _USDM)[refusal])


class PrivateText:
    """The private answers of one symbol."""

    def __init__(self, text: PublicText) -> None:
        self.instrument = text.instrument
        self.spot = not text.futures
        self._public = text

    def price(self, ticks: int) -> str:
        """A whole number of ticks."""
        return self._public.price(ticks).decode()

    def lots(self, lots: int) -> str:
        """A whole number of lots."""
        return self._public.lots(lots).decode()

    def value(self, value: int) -> str:
        """Quote currency, from a sum of ticks x lots."""
        return money(self.instrument.tick * self.instrument.lot * value)

    def average(self, order: AccountOrder) -> str:
        """What an order traded at."""
        if order.filled == 0:
            return self.price(0)
        average = self.instrument.tick * order.value / order.filled
        return f"{average:.{max(self._public.price_decimals, 5)}f}"

    # --- Spot ------------------------------------------------------------------------------

    def spot_order(self, order: AccountOrder) -> Member:
        """GET order, openOrders and allOrders."""
        return self._spot_head(order) | {
            "clientOrderId": order.client_id,
            **self._spot_numbers(order),
            "stopPrice": money(Decimal(0)),
            "icebergQty": money(Decimal(0)),
            "time": order.created,
            "updateTime": order.updated,
            "isWorking": True,
            "workingTime": order.created,
            "selfTradePreventionMode": order.wanted.self_trade,
        }

    def spot_ended(self, order: AccountOrder, request_id: str) -> Member:
        """DELETE order and openOrders; `request_id` is the client id of the cancellation."""
        return self._spot_head(order) | {
            "origClientOrderId": order.client_id,
            "clientOrderId": request_id,
            "transactTime": order.updated,
            **self._spot_numbers(order),
            "selfTradePreventionMode": order.wanted.self_trade,
        }

    def spot_placed(self, order: AccountOrder, trades: list[AccountTrade]) -> Member:
        """POST order, with what it traded at once."""
        return self._spot_head(order) | {
            "clientOrderId": order.client_id,
            "transactTime": order.created,
            **self._spot_numbers(order),
            "workingTime": order.created,
            "selfTradePreventionMode": order.wanted.self_trade,
            "fills": [
                {
                    "price": self.price(trade.tick),
                    "qty": self.lots(trade.lots),
                    "commission": money(trade.commission),
                    "commissionAsset": trade.asset,
                    "tradeId": trade.trade_id,
                }
                for trade in trades
            ],
        }

    def _spot_head(self, order: AccountOrder) -> Member:
        return {"symbol": self.instrument.symbol, "orderId": order.order_id, "orderListId": -1}

    def _spot_numbers(self, order: AccountOrder) -> Member:
        return {
            "price": self.price(order.tick),
            "origQty": self.lots(order.lots),
            "executedQty": self.lots(order.filled),
            "origQuoteOrderQty": money(Decimal(0)),
            "cummulativeQuoteQty": self.value(order.value),
            "status": order.status,
            "timeInForce": order.wanted.in_force,
            "type": order.wanted.kind,
            "side": order.wanted.side.name,
        }

    def spot_trade(self, trade: AccountTrade) -> Member:
        """GET myTrades."""
        return {
            "symbol": self.instrument.symbol,
            "id": trade.trade_id,
            "orderId": trade.order_id,
            "orderListId": -1,
            "price": self.price(trade.tick),
            "qty": self.lots(trade.lots),
            "quoteQty": self.value(trade.tick * trade.lots),
            "commission": money(trade.commission),
            "commissionAsset": trade.asset,
            "time": trade.at,
            "isBuyer": trade.side is Side.BUY,
            "isMaker": trade.maker,
            "isBestMatch": True,
        }

    # --- USD-M -----------------------------------------------------------------------------

    def usdm_order(self, order: AccountOrder) -> Member:
        """Every answer about an order."""
        wanted = order.wanted
        kind = Kind.LIMIT if wanted.kind is Kind.LIMIT_MAKER else wanted.kind
        return {
            "orderId": order.order_id,
            "symbol": self.instrument.symbol,
            "status": order.status,
            "clientOrderId": order.client_id,
            "price": self.price(order.tick),
            "avgPrice": self.average(order),
            "origQty": self.lots(order.lots),
            "executedQty": self.lots(order.filled),
            "cumQty": self.lots(order.filled),
            "cumQuote": self.value(order.value),
            "timeInForce": wanted.in_force if wanted.tick else InForce.GTC,
            "type": kind,
            "reduceOnly": wanted.reduce_only,
            "closePosition": False,
            "side": wanted.side.name,
            "positionSide": "BOTH",
            "stopPrice": self.price(0),
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "origType": kind,
            "priceMatch": "NONE",
            "selfTradePreventionMode": wanted.self_trade,
            "goodTillDate": 0,
            "time": order.created,
            "updateTime": order.updated,
        }

    def usdm_trade(self, trade: AccountTrade) -> Member:
        """GET userTrades."""
        return {
            "symbol": self.instrument.symbol,
            "id": trade.trade_id,
            "orderId": trade.order_id,
            "side": trade.side.name,
            "price": self.price(trade.tick),
            "qty": self.lots(trade.lots),
            "realizedPnl": money(trade.realized),
            "quoteQty": self.value(trade.tick * trade.lots),
            "commission": money(trade.commission),
            "commissionAsset": trade.asset,
            "time": trade.at,
            "positionSide": "BOTH",
            "buyer": trade.side is Side.BUY,
            "maker": trade.maker,
        }

    def amount(self, position: Position) -> str:
        """A signed position."""
        sign = "-" if position.lots < 0 else ""
        return sign + self.lots(abs(position.lots))

    def position_risk(self, position: Position, margin: Margin, leverage: int, now: int) -> Member:
        """GET positionRisk; of a flat account only V2 tells."""
        quantity = self.instrument.quantity(position.lots)
        notional = quantity * position.mark
        return {
            "symbol": self.instrument.symbol,
            "positionSide": "BOTH",
            "positionAmt": self.amount(position),
            "entryPrice": money(position.entry),
            "breakEvenPrice": money(position.entry),
            "markPrice": money(position.mark),
            "unRealizedProfit": money(position.unrealized),
            "liquidationPrice": money(liquidation(position, margin, quantity)),
            "leverage": str(leverage),
            "marginType": "cross",
            "isolatedMargin": "0",
            "isolatedWallet": "0",
            "isAutoAddMargin": "false",
            "notional": money(notional),
            "maxNotionalValue": str(NOTIONAL_CAP),
            "marginAsset": self.instrument.quote,
            "initialMargin": money(margin.position_margin + margin.order_margin),
            "maintMargin": money(margin.maintenance),
            "positionInitialMargin": money(margin.position_margin),
            "openOrderInitialMargin": money(margin.order_margin),
            "adl": 1,
            "bidNotional": "0",
            "askNotional": "0",
            "updateTime": now if position.lots else 0,
        }

    def usdm_asset(self, margin: Margin, now: int) -> Member:
        """One of GET account's assets."""
        return {
            "asset": self.instrument.quote,
            "walletBalance": money(margin.wallet),
            "unrealizedProfit": money(margin.unrealized),
            "marginBalance": money(margin.wallet + margin.unrealized),
            "maintMargin": money(margin.maintenance),
            "initialMargin": money(margin.position_margin + margin.order_margin),
            "positionInitialMargin": money(margin.position_margin),
            "openOrderInitialMargin": money(margin.order_margin),
            "crossWalletBalance": money(margin.wallet),
            "crossUnPnl": money(margin.unrealized),
            "availableBalance": money(margin.available),
            "maxWithdrawAmount": money(margin.available),
            "marginAvailable": True,
            "updateTime": now,
        }

    def usdm_account(
        self, position: Position, margin: Margin, leverage: int, fees: Fees, now: int
    ) -> Member:
        """GET account, versions 2 and 3."""
        asset = self.usdm_asset(margin, now)
        positions = [
            {
                "symbol": self.instrument.symbol,
                "positionSide": "BOTH",
                "positionAmt": self.amount(position),
                "entryPrice": money(position.entry),
                "unrealizedProfit": money(position.unrealized),
                "isolated": False,
                "isolatedMargin": "0",
                "isolatedWallet": "0",
                "leverage": str(leverage),
                "notional": money(self.instrument.quantity(position.lots) * position.mark),
                "initialMargin": asset["initialMargin"],
                "maintMargin": asset["maintMargin"],
                "positionInitialMargin": asset["positionInitialMargin"],
                "openOrderInitialMargin": asset["openOrderInitialMargin"],
                "maxNotional": str(NOTIONAL_CAP),
                "updateTime": now,
            }
        ]
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": False,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
            "totalInitialMargin": asset["initialMargin"],
            "totalMaintMargin": asset["maintMargin"],
            "totalWalletBalance": asset["walletBalance"],
            "totalUnrealizedProfit": asset["unrealizedProfit"],
            "totalMarginBalance": asset["marginBalance"],
            "totalPositionInitialMargin": asset["positionInitialMargin"],
            "totalOpenOrderInitialMargin": asset["openOrderInitialMargin"],
            "totalCrossWalletBalance": asset["crossWalletBalance"],
            "totalCrossUnPnl": asset["crossUnPnl"],
            "availableBalance": asset["availableBalance"],
            "maxWithdrawAmount": asset["maxWithdrawAmount"],
            "assets": [asset],
            "positions": positions,
        }

    def income(self, income: Income) -> Member:
        """GET income."""
        return {
            "symbol": "" if income.kind == "TRANSFER" else self.instrument.symbol,
            "incomeType": income.kind,
            "income": money(income.amount),
            "asset": income.asset,
            "info": income.kind,
            "time": income.at,
            "tranId": income.number,
            "tradeId": str(income.trade_id or ""),
        }

    def brackets(self) -> Member:
        """GET leverageBracket: one bracket for everything."""
        return {
            "symbol": self.instrument.symbol,
            "notionalCoef": 1.5,
            "brackets": [
                {
                    "bracket": 1,
                    "initialLeverage": LEVERAGE_MAX,
                    "notionalCap": NOTIONAL_CAP,
                    "notionalFloor": 0,
                    "maintMarginRatio": float(MAINTENANCE),
                    "cum": 0.0,
                }
            ],
        }

    def __repr__(self) -> str:
        return f"<PrivateText {self._public!r}>"


def money(amount: Decimal) -> str:
    """Eight decimals."""
    return f"{amount:.8f}"


def liquidation(position: Position, margin: Margin, quantity: Decimal) -> Decimal:
    """The price at which what is left equals the maintenance margin; 0 when there is none."""
    if not quantity:
        return Decimal(0)
    kept = quantity - abs(quantity) * MAINTENANCE
    return max((position.entry * quantity - margin.wallet) / kept, Decimal(0))
