"""An account against the exchange's own records, and each thing that it refuses."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.account import (
    AccountOrder,
    BalanceNews,
    ExecutionType,
    InForce,
    Kind,
    NewOrder,
    News,
    OrderNews,
    Refusal,
    SelfTrade,
    Status,
)
from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_MS, Side
from bot.sim import account as module
from bot.sim.account import FUNDING_NS, Account
from bot.sim.exchange import FLOW, Exchange
from bot.sim.wallet import MarginWallet
from tests.shell.fakemarket import SPOT, USDM

BUY, SELL = Side.BUY, Side.SELL
FEES = Fees(Decimal("0.0002"), Decimal("0.0005"))
MIDDLE = 600_000
DEPOSITS = {"USDT": Decimal(1_000), "BTC": Decimal("0.02")}


def market() -> Exchange:
    """A hundred lots at each of five ticks a side, around 600,000."""
    exchange = Exchange()
    for i in range(1, 6):
        exchange.place(0, FLOW, BUY, MIDDLE - i, 100)
        exchange.place(0, FLOW, SELL, MIDDLE + i, 100)
    return exchange


def account_on(
    exchange: Exchange,
    instrument: Instrument = USDM,
    deposits: Mapping[str, Decimal] = DEPOSITS,
    owner: int = 1,
) -> Account:
    return Account(exchange, instrument, FEES, owner=owner, deposits=deposits)


def order(side: Side, tick: int, lots: int, name: str = "a", **more: Any) -> NewOrder:
    return NewOrder(side, tick, lots, name, **more)


def placed(account: Account, wanted: NewOrder, now: int = 1) -> AccountOrder:
    found = account.place(now, wanted)
    assert isinstance(found, AccountOrder), found
    return found


def told(account: Account) -> list[tuple[ExecutionType, Status]]:
    news: list[News] = account.drain()
    return [(one.execution, one.order.status) for one in news if isinstance(one, OrderNews)]


POST_ONLY = {USDM: {"in_force": InForce.GTX}, SPOT: {"kind": Kind.LIMIT_MAKER}}


# --- Whatever is done ---------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["place", "place", "take", "flow", "flow", "cancel", "change", "all"]),
        st.sampled_from(Side),
        st.integers(MIDDLE - 8, MIDDLE + 8),
        st.integers(1, 30),
        st.sampled_from(SelfTrade),
        st.integers(0, 9),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(st.sampled_from([SPOT, USDM]), ACTIONS)
def test_books_agree_after_anything(instrument: Instrument, actions: list[Any]) -> None:
    exchange = market()
    deposits = {"USDT": Decimal(20 if instrument is SPOT else 200), "BTC": Decimal("0.001")}
    account = account_on(exchange, instrument, deposits)
    for turn, (what, side, tick, lots, self_trade, pick) in enumerate(actions, 1):
        open_orders = account.open_orders()
        chosen = open_orders[pick % len(open_orders)].order_id if open_orders else 0
        if what == "place":
            account.place(turn, order(side, tick, lots, f"c{turn}", self_trade=self_trade))
        elif what == "take":
            kind = [
                {"kind": Kind.MARKET},
                {"in_force": InForce.IOC},
                {"in_force": InForce.FOK},
            ][pick % 3]
            at = 0 if "kind" in kind else tick
            size = lots * 60
            wanted = order(side, at, size, f"c{turn}", self_trade=self_trade, **kind)
            done = account.place(turn, wanted)
            if wanted.in_force is InForce.FOK and isinstance(done, AccountOrder):
                assert done.filled == size
        elif what == "flow":
            exchange.place(turn, FLOW, side, tick, lots * 5, ioc=pick > 3)
        elif what == "cancel":
            account.cancel(turn, chosen)
        elif what == "change" and instrument is SPOT:
            account.amend(turn, chosen, lots, f"c{turn}")
        elif what == "change":
            account.modify(turn, chosen, tick, lots)
        else:
            account.cancel_all(turn)
        check_books(account)


def check_books(account: Account) -> None:
    exchange, instrument = account.exchange, account.instrument
    mine = {one.order_id: one for one in account.open_orders()}
    rests = {one.order_id: one for one in exchange.orders_of(account.owner)}
    assert mine.keys() == rests.keys()
    for order_id, seen in rests.items():
        own = mine[order_id]
        assert (own.tick, own.lots - own.filled, own.filled) == (
            seen.tick, seen.left, seen.cumulative,
        )  # fmt: skip
    for own in account.orders():
        fills = [trade for trade in account.trades if trade.order_id == own.order_id]
        assert own.filled == sum(trade.lots for trade in fills)
        assert own.value == sum(trade.lots * trade.tick for trade in fills)
    bought = sum(trade.side * trade.lots for trade in account.trades)
    locked = {
        "USDT": sum(
            (instrument.price(o.tick) * instrument.quantity(o.lots - o.filled)
             for o in mine.values() if o.wanted.side is BUY), Decimal(0),
        ),
        "BTC": sum(
            (instrument.quantity(o.lots - o.filled)
             for o in mine.values() if o.wanted.side is SELL), Decimal(0),
        ),
    }  # fmt: skip
    for balance in account.wallet.balances():
        assert balance.free >= 0
        if account.is_spot:
            assert balance.locked == locked[balance.asset]
    position = account.position()
    if position is not None:
        assert position.lots == bought
        assert sum(one.amount for one in account.incomes if one.asset == "USDT") == (
            account.margin().wallet
        )


def test_two_owners_trade_with_each_other() -> None:
    exchange = market()
    one, two = account_on(exchange), account_on(exchange, owner=2)
    made = placed(one, order(BUY, MIDDLE, 3))
    taken = placed(two, order(SELL, MIDDLE, 3, "a"))
    assert (taken.status, one.find(made.order_id, None).status) == (Status.FILLED,) * 2
    assert one.trades[0].trade_id == two.trades[0].trade_id
    assert (one.trades[0].maker, two.trades[0].maker) == (True, False)
    assert (one.position().lots, two.position().lots) == (3, -3)


# --- What is refused ----------------------------------------------------------------------


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_refusals_leave_nothing(instrument: Instrument) -> None:
    account = account_on(market(), instrument)
    placed(account, order(BUY, MIDDLE - 7, 2, "taken"))
    account.drain()
    post_only = POST_ONLY[instrument]
    much = 10_000_000 if instrument is SPOT else 1_000
    refused = {
        Refusal.DUPLICATE: order(SELL, MIDDLE + 7, 2, "taken"),
        Refusal.WOULD_MATCH: order(BUY, MIDDLE + 1, 2, "b", **post_only),
        Refusal.INSUFFICIENT: order(BUY, MIDDLE - 1, much, "c"),
        Refusal.UNFILLABLE: order(BUY, MIDDLE + 1, 101, "d", in_force=InForce.FOK),
        Refusal.NOT_REDUCING: order(BUY, MIDDLE - 1, 1, "e", reduce_only=True),
    }
    for refusal, wanted in refused.items():
        assert account.place(2, wanted) is refusal
    assert account.cancel(2, 999) is Refusal.UNKNOWN_ORDER
    assert account.amend(2, 999, 1, "x") is Refusal.UNKNOWN_ORDER
    assert account.modify(2, 999, MIDDLE, 1) is Refusal.UNKNOWN_ORDER
    assert account.drain() == []
    assert len(account.open_orders()) == len(account.orders()) == 1
    check_books(account)


def test_a_client_id_is_free_again_once_its_order_ended() -> None:
    account = account_on(market())
    first = placed(account, order(BUY, MIDDLE - 7, 2))
    account.cancel(2, first.order_id)
    second = placed(account, order(BUY, MIDDLE - 7, 2))
    assert account.find(None, "a") == second
    assert account.find(first.order_id, None).status is Status.CANCELED


def test_open_orders_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    account = account_on(market())
    for name in "ab":
        placed(account, order(BUY, MIDDLE - 7, 2, name))
    assert account.place(1, order(BUY, MIDDLE - 7, 2, "c")) is Refusal.TOO_MANY


def test_old_orders_are_forgotten_and_open_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORDERS_MAX", 3)
    account = account_on(market())
    kept = placed(account, order(BUY, MIDDLE - 7, 2, "open"))
    for i in range(5):
        account.cancel(2, placed(account, order(BUY, MIDDLE - 7, 2, f"c{i}")).order_id)
    assert [one.client_id for one in account.orders()] == ["open", "c3", "c4"]
    assert account.find(None, "c0") is None
    assert account.find(None, "open") == kept


def test_a_market_order_takes_what_there_is_and_expires() -> None:
    account = account_on(market(), deposits={"USDT": Decimal(1_000_000)})
    done = placed(account, order(BUY, 0, 600, kind=Kind.MARKET))
    assert (done.status, done.filled) == (Status.EXPIRED, 500)
    assert account.place(2, order(BUY, 0, 1, "b", kind=Kind.MARKET)) is Refusal.EMPTY_BOOK
    news = told(account)
    assert news[0] == (ExecutionType.NEW, Status.NEW)
    assert news[-1] == (ExecutionType.EXPIRED, Status.EXPIRED)
    assert [kind for kind, _ in news[1:-1]] == [ExecutionType.TRADE] * 5


# --- Changes ------------------------------------------------------------------------------


def test_an_amended_order_shrinks_in_its_place() -> None:
    exchange = market()
    account = account_on(exchange, SPOT)
    own = placed(account, order(BUY, MIDDLE - 1, 9, "old"))
    exchange.place(2, FLOW, BUY, MIDDLE - 1, 50)
    exchange.place(3, FLOW, SELL, MIDDLE - 1, 102, ioc=True)  # 100 in front, two of ours
    account.drain()
    for lots in (2, 9, 10):
        assert account.amend(4, own.order_id, lots, "new") is Refusal.NOT_SMALLER
    amended = account.amend(4, own.order_id, 5, "new")
    assert (amended.lots, amended.filled, amended.client_id) == (5, 2, "new")
    assert [seen.left for seen in exchange.queue(BUY, MIDDLE - 1)] == [3, 50]
    news = account.drain()
    assert (news[0].execution, news[0].request_id) == (ExecutionType.REDUCED, "old")
    assert account.find(None, "new") == amended
    check_books(account)


def test_a_modified_order_goes_to_the_end_of_the_queue() -> None:
    exchange = market()
    account = account_on(exchange)
    own = placed(account, order(BUY, MIDDLE - 1, 9))
    exchange.place(2, FLOW, BUY, MIDDLE - 1, 50)
    assert account.modify(3, own.order_id, MIDDLE - 1, 9) is Refusal.UNCHANGED
    smaller = account.modify(3, own.order_id, MIDDLE - 1, 4)
    assert (smaller.order_id, smaller.lots) == (own.order_id, 4)
    assert [seen.left for seen in exchange.queue(BUY, MIDDLE - 1)] == [100, 50, 4]
    assert told(account)[-1] == (ExecutionType.MOVED, Status.NEW)
    check_books(account)


def test_modifications_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHANGES_MAX", 2)
    account = account_on(market())
    own = placed(account, order(BUY, MIDDLE - 1, 9))
    for tick in (MIDDLE - 2, MIDDLE - 3):
        account.modify(2, own.order_id, tick, 9)
    assert account.modify(3, own.order_id, MIDDLE - 1, 9) is Refusal.TOO_OFTEN
    assert account.open_orders()[0].tick == MIDDLE - 3


def test_a_modification_beyond_the_margin_leaves_the_order() -> None:
    account = account_on(market())
    own = placed(account, order(BUY, MIDDLE - 1, 9))
    assert account.modify(2, own.order_id, MIDDLE - 1, 10_000) is Refusal.INSUFFICIENT
    assert account.open_orders() == [own]
    check_books(account)


def test_a_modification_that_takes() -> None:
    account = account_on(market())
    taking = placed(account, order(BUY, MIDDLE - 1, 9))
    filled = account.modify(2, taking.order_id, MIDDLE + 1, 9)
    assert (filled.status, filled.filled) == (Status.FILLED, 9)
    resting = placed(account, order(BUY, MIDDLE - 1, 9, "b", in_force=InForce.GTX))
    ended = account.modify(2, resting.order_id, MIDDLE + 1, 9)
    assert (ended.status, ended.filled) == (Status.CANCELED, 0)  # post-only never takes
    check_books(account)


def test_a_modification_to_what_is_filled_cancels() -> None:
    exchange = market()
    account = account_on(exchange)
    own = placed(account, order(BUY, MIDDLE, 9))
    exchange.place(2, FLOW, SELL, MIDDLE, 4, ioc=True)
    ended = account.modify(3, own.order_id, MIDDLE, 4)
    assert (ended.status, ended.filled, ended.lots) == (Status.CANCELED, 4, 9)


def test_reduce_only_orders_go_with_the_position() -> None:
    account = account_on(market())
    placed(account, order(BUY, MIDDLE + 1, 5))
    assert account.place(2, order(SELL, MIDDLE + 3, 6, "b", reduce_only=True)) is (
        Refusal.NOT_REDUCING
    )
    resting = placed(account, order(SELL, MIDDLE + 3, 5, "c", reduce_only=True))
    account.tend(3, 0)
    assert account.open_orders() == [resting]
    placed(account, order(SELL, MIDDLE - 1, 2, "d"))
    account.tend(4, 0)
    assert account.open_orders() == []
    assert account.find(resting.order_id, None).status is Status.CANCELED


# --- What happens by itself ---------------------------------------------------------------


def test_a_countdown_cancels_everything_once() -> None:
    account = account_on(market())
    for name in "ab":
        placed(account, order(BUY, MIDDLE - 7, 2, name))
    account.arm(1_000)
    account.tend(5, 999)
    assert len(account.open_orders()) == 2
    account.arm(None)
    account.tend(5, 2_000)
    assert len(account.open_orders()) == 2
    account.arm(3_000)
    account.tend(6, 3_000)
    assert account.open_orders() == []
    placed(account, order(BUY, MIDDLE - 7, 2, "c"))
    account.tend(7, 9_000)
    assert len(account.open_orders()) == 1


def test_funding_is_paid_by_longs_every_eight_hours() -> None:
    account = account_on(market())
    placed(account, order(BUY, MIDDLE + 1, 10))
    before = account.margin().wallet
    account.drain()
    account.tend(FUNDING_NS - 1, 0)
    assert account.drain() == []
    account.tend(FUNDING_NS, 0)
    paid = Decimal(60_000) * Decimal("0.010") * Decimal("0.0001")
    assert account.margin().wallet == before - paid
    (news,) = account.drain()
    assert isinstance(news, BalanceNews)
    assert (news.reason, news.delta, news.at) == ("FUNDING_FEE", -paid, FUNDING_NS // NS_PER_MS)
    assert (account.incomes[-1].kind, account.incomes[-1].amount) == ("FUNDING_FEE", -paid)
    account.settle_funding(FUNDING_NS, Decimal("-0.0003"), MIDDLE)
    assert account.margin().wallet == before + 2 * paid
    check_books(account)


def test_a_flat_account_and_a_spot_one_pay_no_funding() -> None:
    for instrument in (SPOT, USDM):
        account = account_on(market(), instrument)
        account.tend(3 * FUNDING_NS, 0)
        assert account.drain() == []


def test_deposits_are_told() -> None:
    account = account_on(market(), SPOT)
    account.deposit(5 * NS_PER_MS, "BTC", Decimal("0.5"))
    (news,) = account.drain()
    assert (news.reason, news.delta, news.at) == ("DEPOSIT", Decimal("0.5"), 5)
    assert [(one.asset, one.free) for one in news.balances] == [("BTC", Decimal("0.52"))]


def test_news_of_a_fill_tells_what_it_cost() -> None:
    exchange = market()
    account = account_on(exchange)
    placed(account, order(BUY, MIDDLE, 9), now=NS_PER_MS)
    exchange.place(7 * NS_PER_MS, FLOW, SELL, MIDDLE, 4, ioc=True)
    _, fill, money = account.drain()
    assert (fill.execution, fill.order.status, fill.at) == (
        ExecutionType.TRADE, Status.PARTIALLY_FILLED, 7,
    )  # fmt: skip
    assert fill.trade.commission == Decimal("60000") * Decimal("0.004") * FEES.maker
    assert (fill.trade.maker, fill.trade.lots, fill.trade.tick) == (True, 4, MIDDLE)
    assert (money.reason, money.position.lots) == ("ORDER", 4)
    assert isinstance(account.wallet, MarginWallet)


def test_prevention_is_told_as_such() -> None:
    account = account_on(market())
    placed(account, order(BUY, MIDDLE, 2, "maker"))
    account.drain()
    taker = placed(account, order(SELL, MIDDLE, 2, "taker", self_trade=SelfTrade.EXPIRE_TAKER))
    assert taker.status is Status.EXPIRED_IN_MATCH
    assert told(account) == [
        (ExecutionType.NEW, Status.NEW), (ExecutionType.PREVENTED, Status.EXPIRED_IN_MATCH),
    ]  # fmt: skip
