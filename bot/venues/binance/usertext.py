"""An account's news as events of Binance's user data streams.

Sources: "User data streams" of the spot documents (executionReport, outboundAccountPosition,
balanceUpdate) and of the USD-M documents (ORDER_TRADE_UPDATE, ACCOUNT_UPDATE). The time of the
event is that of writing, the time of the transaction that of the record.
"""

from typing import Any, Final

from bot.domain.account import (
    BalanceNews,
    ExecutionType,
    InForce,
    Kind,
    News,
    OrderNews,
    Position,
)
from bot.venues.binance.privatetext import PrivateText, money

Event = dict[str, Any]

_SPOT_WORDS: Final = {
    ExecutionType.NEW: "NEW",
    ExecutionType.TRADE: "TRADE",
    ExecutionType.REDUCED: "REPLACED",
    ExecutionType.MOVED: "REPLACED",
    ExecutionType.CANCELED: "CANCELED",
    ExecutionType.EXPIRED: "EXPIRED",
    ExecutionType.PREVENTED: "TRADE_PREVENTION",
}
_USDM_WORDS: Final = _SPOT_WORDS | {
    ExecutionType.REDUCED: "AMENDMENT",
    ExecutionType.MOVED: "AMENDMENT",
    ExecutionType.PREVENTED: "EXPIRED",
}


class UserText:
    """The user events of one symbol."""

    def __init__(self, text: PrivateText) -> None:
        self._text = text

    def event(self, news: News, now: int) -> Event:
        """One piece of news, written at `now` (ms)."""
        if isinstance(news, OrderNews):
            return self._report(news, now) if self._text.spot else self._order_update(news, now)
        if not self._text.spot:
            return self._account_update(news, now)
        if news.reason == "DEPOSIT":
            asset = news.balances[0].asset
            return {
                "e": "balanceUpdate",
                "E": now,
                "a": asset,
                "d": money(news.delta),
                "T": news.at,
            }
        return {
            "e": "outboundAccountPosition",
            "E": now,
            "u": news.at,
            "B": [
                {"a": one.asset, "f": money(one.free), "l": money(one.locked)}
                for one in news.balances
            ],
        }

    def _report(self, news: OrderNews, now: int) -> Event:
        text, order, trade = self._text, news.order, news.trade
        wanted = order.wanted
        # A cancellation has an id of its own, and an amendment the one before (`C`).
        client_id, original = order.client_id, news.request_id
        if news.execution is ExecutionType.CANCELED and news.request_id:
            client_id, original = news.request_id, order.client_id
        return {
            "e": "executionReport",
            "E": now,
            "s": text.instrument.symbol,
            "c": client_id,
            "S": wanted.side.name,
            "o": wanted.kind,
            "f": wanted.in_force,
            "q": text.lots(order.lots),
            "p": text.price(order.tick),
            "P": text.price(0),
            "F": text.lots(0),
            "g": -1,
            "C": original,
            "x": _SPOT_WORDS[news.execution],
            "X": order.status,
            "r": "NONE",
            "i": order.order_id,
            "l": text.lots(trade.lots if trade else 0),
            "z": text.lots(order.filled),
            "L": text.price(trade.tick if trade else 0),
            "n": money(trade.commission) if trade else "0",
            "N": trade.asset if trade else None,
            "T": news.at,
            "t": trade.trade_id if trade else -1,
            "I": order.order_id,
            "w": order.is_open,
            "m": trade is not None and trade.maker,
            "M": False,
            "O": order.created,
            "Z": text.value(order.value),
            "Y": text.value(trade.tick * trade.lots if trade else 0),
            "Q": text.value(0),
            "W": order.created,
            "V": wanted.self_trade,
        }

    def _order_update(self, news: OrderNews, now: int) -> Event:
        text, order, trade = self._text, news.order, news.trade
        wanted = order.wanted
        kind = Kind.LIMIT if wanted.kind is Kind.LIMIT_MAKER else wanted.kind
        update: Event = {
            "s": text.instrument.symbol,
            "c": order.client_id,
            "S": wanted.side.name,
            "o": kind,
            "f": wanted.in_force if wanted.tick else InForce.GTC,
            "q": text.lots(order.lots),
            "p": text.price(order.tick),
            "ap": text.average(order),
            "sp": "0",
            "x": _USDM_WORDS[news.execution],
            "X": order.status,
            "i": order.order_id,
            "l": text.lots(trade.lots if trade else 0),
            "z": text.lots(order.filled),
            "L": text.price(trade.tick if trade else 0),
            "T": news.at,
            "t": trade.trade_id if trade else 0,
            "b": "0",
            "a": "0",
            "m": trade is not None and trade.maker,
            "R": wanted.reduce_only,
            "wt": "CONTRACT_PRICE",
            "ot": kind,
            "ps": "BOTH",
            "cp": False,
            "rp": money(trade.realized) if trade else "0",
            "pP": False,
            "si": 0,
            "ss": 0,
            "V": wanted.self_trade,
            "pm": "NONE",
            "gtd": 0,
        }
        if trade:
            update |= {"n": money(trade.commission), "N": trade.asset}
        return {"e": "ORDER_TRADE_UPDATE", "E": now, "T": news.at, "o": update}

    def _account_update(self, news: BalanceNews, now: int) -> Event:
        balances = [
            {
                "a": one.asset,
                "wb": money(one.free),
                "cw": money(one.free),
                "bc": money(news.delta),
            }
            for one in news.balances
        ]
        # "When FUNDING FEE occurs in a crossed position, B only" (Balance and Position Update).
        told = news.position if news.reason == "ORDER" else None
        update = {
            "m": news.reason,
            "B": balances,
            "P": [] if told is None else [self._position(told)],
        }
        return {"e": "ACCOUNT_UPDATE", "E": now, "T": news.at, "a": update}

    def _position(self, position: Position) -> Event:
        return {
            "s": self._text.instrument.symbol,
            "pa": self._text.amount(position),
            "ep": money(position.entry),
            "bep": money(position.entry),
            "cr": money(position.realized),
            "up": money(position.unrealized),
            "mt": "cross",
            "iw": "0",
            "ps": "BOTH",
        }

    def __repr__(self) -> str:
        return f"<UserText {self._text!r}>"
