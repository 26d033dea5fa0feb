"""The private endpoints of spot: what each one does with the account, and its weight.

Sources: "Trading endpoints" and "Account endpoints" of the spot documents, and the paths that
ccxt calls. `sapi` says what a key may do and what trading costs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from bot.domain.account import AccountOrder, AccountTrade, Refusal
from bot.venues.binance.orderform import NO_ORDER, UNKNOWN_ORDER, OrderForm
from bot.venues.binance.privateapi import Call, Route, Routes, integer, within
from bot.venues.binance.privatetext import Member, PrivateText, money, refused
from bot.venues.binance.reply import Refused, missing


class SpotApi:
    """One symbol's private endpoints."""

    def __init__(self, text: PrivateText) -> None:
        self._text = text
        self._form = OrderForm(text.instrument)

    def routes(self) -> Routes:
        """All of them, as `PrivateApi` wants them."""
        found = {
            ("POST", "order"): Route(self._place, 1, orders=1),
            ("POST", "order/cancelReplace"): Route(self._replace, 1, orders=1),
            ("PUT", "order/amend/keepPriority"): Route(self._amend, 4),
            ("DELETE", "order"): Route(self._cancel, 1),
            ("GET", "order"): Route(self._order, 4),
            ("DELETE", "openOrders"): Route(self._cancel_all, 1),
            ("GET", "openOrders"): Route(self._open_orders, 6, weight_all=80),
            ("GET", "allOrders"): Route(self._orders, 20),
            ("GET", "myTrades"): Route(self._trades, 20),
            ("GET", "account"): Route(self._account, 20),
            ("GET", "account/commission"): Route(self._commission, 20),
        }
        return {(method, "api", name): route for (method, name), route in found.items()} | {
            ("GET", "sapi", "asset/tradeFee"): Route(self._fees, 1)
        }

    # --- Orders ----------------------------------------------------------------------------

    def _place(self, call: Call) -> Member:
        account = call.seat.account
        wanted = self._form.read(call.params, account.mark(), call.seat.new_id("web"))
        order = self._done(account.place(call.at, wanted))
        return self._text.spot_placed(order, just_traded(account.trades, order))

    def _cancel(self, call: Call) -> Member:
        order = self._form.found(call.params, call.seat.account.find, *UNKNOWN_ORDER)
        return self._end(call, order)

    def _end(self, call: Call, order: AccountOrder) -> Member:
        default = call.seat.new_id("cancel")
        request_id = self._form.client_id(call.params, "newClientOrderId", default)
        ended = self._done(call.seat.account.cancel(call.at, order.order_id, request_id))
        return self._text.spot_ended(ended, request_id)

    def _replace(self, call: Call) -> Member:
        """Cancel, then place; with STOP_ON_FAILURE nothing is placed when nothing was cancelled."""
        params = call.params
        stops = params.get("cancelReplaceMode")
        if stops not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
            raise missing("cancelReplaceMode")
        names = {"cancelOrderId": "orderId", "cancelOrigClientOrderId": "origClientOrderId"}
        old = {"symbol": params.get("symbol", "")}
        old |= {ours: params[theirs] for theirs, ours in names.items() if theirs in params}
        cancelled, cancel_error = self._try(self._cancel, call._replace(params=old))
        if cancel_error is not None and stops == "STOP_ON_FAILURE":
            raise _half_done(cancel_error, "FAILURE", "NOT_ATTEMPTED", None)
        placed, place_error = self._try(self._place, call)
        if cancel_error is not None or place_error is not None:
            raise _half_done(
                cancel_error or cancelled,
                "SUCCESS" if cancel_error is None else "FAILURE",
                "SUCCESS" if place_error is None else "FAILURE",
                place_error or placed,
            )
        return {
            "cancelResult": "SUCCESS",
            "newOrderResult": "SUCCESS",
            "cancelResponse": cancelled,
            "newOrderResponse": placed,
        }

    def _try(
        self, job: Callable[[Call], Member], call: Call
    ) -> tuple[Member | None, Member | None]:
        """What a half of a request brought: (its answer, its error)."""
        try:
            return job(call), None
        except Refused as problem:
            return None, {"code": problem.code, "msg": str(problem)}

    def _amend(self, call: Call) -> Member:
        order = self._form.found(call.params, call.seat.account.find, *NO_ORDER)
        lots = self._form.lots(call.params, "newQty")
        self._form.notional(order.tick * lots)
        default = call.seat.new_id("amend")
        client_id = self._form.client_id(call.params, "newClientOrderId", default)
        outcome = call.seat.account.amend(call.at, order.order_id, lots, client_id)
        if outcome is Refusal.NOT_SMALLER:
            raise Refused(-2038, "Order amend (quantity increase) is not supported.")
        amended = self._done(outcome)
        state = self._text.spot_order(amended)
        return {
            "transactTime": amended.updated,
            "executionId": amended.order_id,
            "amendedOrder": {
                "symbol": state["symbol"],
                "orderId": amended.order_id,
                "orderListId": -1,
                "origClientOrderId": order.client_id,
                "clientOrderId": amended.client_id,
                "price": state["price"],
                "qty": state["origQty"],
                "executedQty": state["executedQty"],
                "preventedQty": "0.00000000",
                "quoteOrderQty": "0.00000000",
                "cumulativeQuoteQty": state["cummulativeQuoteQty"],
                "status": amended.status,
                "timeInForce": amended.wanted.in_force,
                "type": amended.wanted.kind,
                "side": amended.wanted.side.name,
                "workingTime": amended.created,
                "selfTradePreventionMode": amended.wanted.self_trade,
            },
        }

    def _cancel_all(self, call: Call) -> list[Member]:
        self._form.symbol(call.params)
        orders = call.seat.account.open_orders()
        if not orders:
            raise Refused(*UNKNOWN_ORDER)
        return [self._end(call._replace(params={}), order) for order in orders]

    def _order(self, call: Call) -> Member:
        return self._text.spot_order(
            self._form.found(call.params, call.seat.account.find, *NO_ORDER)
        )

    def _open_orders(self, call: Call) -> list[Member]:
        if "symbol" in call.params:
            self._form.symbol(call.params)
        return [self._text.spot_order(order) for order in call.seat.account.open_orders()]

    def _orders(self, call: Call) -> list[Member]:
        self._form.symbol(call.params)
        rows = call.seat.account.orders()
        chosen = within(rows, call.params, lambda o: o.created, lambda o: o.order_id, "orderId")
        return [self._text.spot_order(order) for order in chosen]

    def _trades(self, call: Call) -> list[Member]:
        self._form.symbol(call.params)
        wanted = integer(call.params, "orderId", 0)
        rows = [t for t in call.seat.account.trades if wanted in (0, t.order_id)]
        chosen = within(rows, call.params, lambda t: t.at, lambda t: t.trade_id, "fromId")
        return [self._text.spot_trade(trade) for trade in chosen]

    def _done(self, outcome: AccountOrder | Refusal) -> AccountOrder:
        if isinstance(outcome, Refusal):
            raise refused(outcome, spot=True)
        return outcome

    # --- The account -----------------------------------------------------------------------

    def _account(self, call: Call) -> Member:
        fees = call.seat.account.fees
        return {
            "makerCommission": int(fees.maker * 10_000),
            "takerCommission": int(fees.taker * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": money(fees.maker),
                "taker": money(fees.taker),
                "buyer": "0.00000000",
                "seller": "0.00000000",
            },
            "canTrade": True,
            "canWithdraw": False,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": call.now,
            "accountType": "SPOT",
            "balances": [
                {"asset": one.asset, "free": money(one.free), "locked": money(one.locked)}
                for one in call.seat.account.wallet.balances()
            ],
            "permissions": ["SPOT"],
            "uid": 1,
        }

    def _commission(self, call: Call) -> Member:
        self._form.symbol(call.params)
        fees = call.seat.account.fees
        nothing = dict.fromkeys(("maker", "taker", "buyer", "seller"), "0.00000000")
        return {
            "symbol": self._text.instrument.symbol,
            "standardCommission": nothing
            | {"maker": money(fees.maker), "taker": money(fees.taker)},
            "specialCommission": nothing,
            "taxCommission": nothing,
            "discount": {
                "enabledForAccount": False,
                "enabledForSymbol": False,
                "discountAsset": "BNB",
                "discount": "0.00000000",
            },
        }

    def _fees(self, call: Call) -> list[Member]:
        fees = call.seat.account.fees
        return [
            {
                "symbol": self._text.instrument.symbol,
                "makerCommission": f"{fees.maker:f}",
                "takerCommission": f"{fees.taker:f}",
            }
        ]

    def __repr__(self) -> str:
        return f"<SpotApi {self._text!r}>"


def restrictions(call: Call) -> Member:
    """GET apiRestrictions: a key that may trade, and as a rule nothing else."""
    seat = call.seat
    trades, moves = seat.may_trade, seat.may_withdraw
    return {
        "ipRestrict": seat.ip_restricted,
        "createTime": call.now,
        "enableReading": True,
        "enableWithdrawals": moves,
        "enableInternalTransfer": moves,
        "permitsUniversalTransfer": moves,
        "enableVanillaOptions": False,
        "enableMargin": False,
        "enableFutures": trades,
        "enableSpotAndMarginTrading": trades,
        "enablePortfolioMarginTrading": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
    }


def just_traded(trades: Sequence[AccountTrade], order: AccountOrder) -> list[AccountTrade]:
    """The trades of an order that was placed a moment ago, from the end of all."""
    found, left = [], order.filled
    for trade in reversed(trades):
        if left == 0:
            break
        if trade.order_id == order.order_id:
            found.append(trade)
            left -= trade.lots
    return found[::-1]


def _half_done(cancelled: Any, cancel_result: str, new_result: str, placed: Any) -> Refused:
    """The error of a cancelReplace of which a half failed, with both halves in it."""
    failed = cancel_result == "FAILURE" and new_result != "SUCCESS"
    code, words = (-2022, "Order cancel-replace failed.")
    if not failed:
        code, words = (-2021, "Order cancel-replace partially failed.")
    problem = Refused(code, words, 400 if failed else 409)
    data = {
        "cancelResult": cancel_result,
        "newOrderResult": new_result,
        "cancelResponse": cancelled,
        "newOrderResponse": placed,
    }
    body = msgspec.json.encode({"code": code, "msg": words, "data": data})
    problem.reply = problem.reply._replace(body=body)
    return problem
