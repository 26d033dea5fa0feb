"""The private endpoints of USD-M: what each one does with the account, and its weight.

Sources: the trade, account and user data stream endpoints of the USD-M documents, and the
paths and versions that ccxt calls. One-way mode, cross margin, no conditional orders.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from bot.domain.account import AccountOrder, Refusal
from bot.venues.binance.orderform import NO_ORDER, UNKNOWN_ORDER, OrderForm
from bot.venues.binance.privateapi import Call, Route, Routes, integer, within
from bot.venues.binance.privatetext import LEVERAGE_MAX, NOTIONAL_CAP, Member, PrivateText, refused
from bot.venues.binance.reply import Refused, missing

BATCH_PLACED_MAX: Final = 5
BATCH_CANCELLED_MAX: Final = 10

Item = TypeVar("Item")


class UsdmApi:
    """One symbol's private endpoints."""

    def __init__(self, text: PrivateText) -> None:
        self._text = text
        self._form = OrderForm(text.instrument)

    def routes(self) -> Routes:
        """All of them, as `PrivateApi` wants them."""
        found = {
            ("POST", "order"): Route(self._place, 0, orders=1),
            ("PUT", "order"): Route(self._modify, 0, orders=1),
            ("DELETE", "order"): Route(self._cancel, 1),
            ("GET", "order"): Route(self._order, 1),
            ("POST", "batchOrders"): Route(self._place_many, 5, orders=5),
            ("PUT", "batchOrders"): Route(self._modify_many, 5, orders=5),
            ("DELETE", "batchOrders"): Route(self._cancel_many, 1),
            ("DELETE", "allOpenOrders"): Route(self._cancel_all, 1),
            ("POST", "countdownCancelAll"): Route(self._countdown, 10),
            ("GET", "openOrder"): Route(self._open_order, 1),
            ("GET", "openOrders"): Route(self._open_orders, 1, weight_all=40),
            ("GET", "allOrders"): Route(self._orders, 5),
            ("GET", "userTrades"): Route(self._trades, 5),
            ("GET", "account"): Route(self._account, 5),
            ("GET", "balance"): Route(self._balance, 5),
            ("GET", "positionRisk"): Route(self._position_risk, 5),
            ("GET", "positionSide/dual"): Route(self._position_mode, 30),
            ("GET", "multiAssetsMargin"): Route(self._multi_assets, 30),
            ("GET", "commissionRate"): Route(self._commission, 20),
            ("GET", "accountConfig"): Route(self._config, 5),
            ("GET", "symbolConfig"): Route(self._symbol_config, 5),
            ("GET", "leverageBracket"): Route(self._brackets, 1),
            ("POST", "leverage"): Route(self._leverage, 1),
            ("GET", "income"): Route(self._income, 30),
            ("POST", "listenKey"): Route(_open_stream, 1, signed=False),
            ("PUT", "listenKey"): Route(_extend_stream, 1, signed=False),
            ("DELETE", "listenKey"): Route(_end_stream, 1, signed=False),
        }
        return {(method, "fapi", name): route for (method, name), route in found.items()}

    # --- Orders ----------------------------------------------------------------------------

    def _place(self, call: Call) -> Member:
        account = call.seat.account
        wanted = self._form.read(call.params, account.mark(), call.seat.new_id("web"))
        return self._done(account.place(call.at, wanted))

    def _modify(self, call: Call) -> Member:
        account, params = call.seat.account, call.params
        self._form.symbol(params)
        side = self._form.side(params)
        order = self._found(call, *NO_ORDER)
        if not order.is_open:
            raise Refused(*NO_ORDER)
        if side is not order.wanted.side:
            raise Refused(-1117, "Invalid side.")
        lots = self._form.lots(params, "quantity")
        tick = self._form.tick(params, side, account.mark())
        self._form.notional(tick * lots, reduce_only=order.wanted.reduce_only)
        return self._done(account.modify(call.at, order.order_id, tick, lots))

    def _cancel(self, call: Call) -> Member:
        order = self._found(call, *UNKNOWN_ORDER)
        return self._done(call.seat.account.cancel(call.at, order.order_id))

    def _order(self, call: Call) -> Member:
        return self._text.usdm_order(self._found(call, *NO_ORDER))

    def _open_order(self, call: Call) -> Member:
        order = self._found(call, *NO_ORDER)
        if not order.is_open:
            raise Refused(*NO_ORDER)
        return self._text.usdm_order(order)

    def _place_many(self, call: Call) -> list[Any]:
        return self._each(call, self._place)

    def _modify_many(self, call: Call) -> list[Any]:
        return self._each(call, self._modify)

    def _each(self, call: Call, job: Callable[[Call], Member]) -> list[Any]:
        """Do every order of a batch; each has an outcome of its own."""
        orders = listed(call.params, "batchOrders", dict[str, Any])
        if not 0 < len(orders) <= BATCH_PLACED_MAX:
            raise Refused(-4082, "Invalid number of batch place orders.")
        done: list[Any] = []
        for order in orders:
            params = {name: _as_text(value) for name, value in order.items()}
            try:
                done.append(job(call._replace(params=params)))
            except Refused as problem:
                done.append(msgspec.Raw(problem.reply.body))
        return done

    def _cancel_many(self, call: Call) -> list[Any]:
        self._form.symbol(call.params)
        params = {name.lower(): value for name, value in call.params.items()}
        if "orderidlist" in params:
            chosen = [{"orderId": str(one)} for one in listed(params, "orderidlist", int)]
        else:
            found = listed(params, "origclientorderidlist", str)
            chosen = [{"origClientOrderId": one} for one in found]
        if not 0 < len(chosen) <= BATCH_CANCELLED_MAX:
            raise Refused(-4083, "Invalid number of batch cancel orders.")
        done: list[Any] = []
        for one in chosen:
            named = call._replace(params={"symbol": self._text.instrument.symbol} | one)
            try:
                done.append(self._cancel(named))
            except Refused as problem:
                done.append(msgspec.Raw(problem.reply.body))
        return done

    def _cancel_all(self, call: Call) -> Member:
        self._form.symbol(call.params)
        call.seat.account.cancel_all(call.at)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _countdown(self, call: Call) -> Member:
        self._form.symbol(call.params)
        if "countdownTime" not in call.params:
            raise missing("countdownTime")
        wait = integer(call.params, "countdownTime", 0)
        call.seat.account.arm(call.now + wait if wait else None)
        return {"symbol": call.params["symbol"], "countdownTime": str(wait)}

    def _open_orders(self, call: Call) -> list[Member]:
        if "symbol" in call.params:
            self._form.symbol(call.params)
        return [self._text.usdm_order(order) for order in call.seat.account.open_orders()]

    def _orders(self, call: Call) -> list[Member]:
        self._form.symbol(call.params)
        rows = call.seat.account.orders()
        chosen = within(rows, call.params, lambda o: o.created, lambda o: o.order_id, "orderId")
        return [self._text.usdm_order(order) for order in chosen]

    def _trades(self, call: Call) -> list[Member]:
        self._form.symbol(call.params)
        wanted = integer(call.params, "orderId", 0)
        rows = [t for t in call.seat.account.trades if wanted in (0, t.order_id)]
        chosen = within(rows, call.params, lambda t: t.at, lambda t: t.trade_id, "fromId")
        return [self._text.usdm_trade(trade) for trade in chosen]

    def _found(self, call: Call, code: int, words: str) -> AccountOrder:
        """The order that a request names; the id prevails over the client id."""
        return self._form.found(call.params, call.seat.account.find, code, words)

    def _done(self, outcome: AccountOrder | Refusal) -> Member:
        if isinstance(outcome, Refusal):
            raise refused(outcome, spot=False)
        return self._text.usdm_order(outcome)

    # --- The account -----------------------------------------------------------------------

    def _account(self, call: Call) -> Member:
        account = call.seat.account
        position = account.position()
        assert position is not None
        return self._text.usdm_account(
            position, account.margin(), account.leverage, account.fees, call.now
        )

    def _balance(self, call: Call) -> list[Member]:
        asset = self._text.usdm_asset(call.seat.account.margin(), call.now)
        names = ("crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount")
        return [
            {"accountAlias": "SgsR", "asset": asset["asset"], "balance": asset["walletBalance"]}
            | {name: asset[name] for name in (*names, "marginAvailable", "updateTime")}
        ]

    def _position_risk(self, call: Call) -> list[Member]:
        if "symbol" in call.params:
            self._form.symbol(call.params)
        account = call.seat.account
        position = account.position()
        assert position is not None
        if position.lots == 0 and not account.open_orders():
            return []  # "only symbol that has position or open orders will be returned" (V3)
        return [self._text.position_risk(position, account.margin(), account.leverage, call.now)]

    def _position_mode(self, call: Call) -> Member:
        return {"dualSidePosition": False}

    def _multi_assets(self, call: Call) -> Member:
        return {"multiAssetsMargin": False}

    def _commission(self, call: Call) -> Member:
        self._form.symbol(call.params)
        fees = call.seat.account.fees
        return {
            "symbol": self._text.instrument.symbol,
            "makerCommissionRate": f"{fees.maker:f}",
            "takerCommissionRate": f"{fees.taker:f}",
        }

    def _config(self, call: Call) -> Member:
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": False,
            "dualSidePosition": False,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def _symbol_config(self, call: Call) -> list[Member]:
        return [
            {
                "symbol": self._text.instrument.symbol,
                "marginType": "CROSSED",
                "isAutoAddMargin": False,
                "leverage": call.seat.account.leverage,
                "maxNotionalValue": str(NOTIONAL_CAP),
            }
        ]

    def _brackets(self, call: Call) -> list[Member]:
        return [self._text.brackets()]

    def _leverage(self, call: Call) -> Member:
        self._form.symbol(call.params)
        leverage = integer(call.params, "leverage", 0)
        if not 1 <= leverage <= LEVERAGE_MAX:
            raise Refused(-4028, f"Leverage {leverage} is not valid")
        call.seat.account.set_leverage(leverage)
        return {
            "symbol": self._text.instrument.symbol,
            "leverage": leverage,
            "maxNotionalValue": str(NOTIONAL_CAP),
        }

    def _income(self, call: Call) -> list[Member]:
        kind = call.params.get("incomeType")
        rows = [one for one in call.seat.account.incomes if kind in (None, one.kind)]
        chosen = within(rows, call.params, lambda i: i.at, lambda i: i.number, "tranId")
        return [self._text.income(one) for one in chosen]

    def __repr__(self) -> str:
        return f"<UsdmApi {self._text!r}>"


def listed(params: Mapping[str, str], name: str, kind: type[Item]) -> list[Item]:
    """A parameter that is a JSON list."""
    text = params.get(name, "")
    if not text:
        raise missing(name)
    try:
        found: list[Item] = msgspec.json.decode(text, type=list[kind])  # type: ignore[valid-type]
    except msgspec.DecodeError:
        raise Refused(-1130, f"Data sent for parameter '{name}' is not valid.") from None
    return found


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _open_stream(call: Call) -> Member:
    return {"listenKey": call.seat.stream.open(call.now)}


def _extend_stream(call: Call) -> Member:
    if not call.seat.stream.extend(call.now):
        raise Refused(-1125, "This listenKey does not exist.")
    return {"listenKey": call.seat.stream.name}


def _end_stream(call: Call) -> Member:
    call.seat.stream.end(call.now)
    return {}
