"""The exchange against a naive book, and its events against the book that they describe."""

from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bot.domain.account import SelfTrade
from bot.domain.units import Side
from bot.sim import exchange as module
from bot.sim.exchange import (
    FLOW,
    Cancelled,
    Exchange,
    Executed,
    LevelSet,
    Moved,
    Opened,
    Placed,
    Printed,
    Reduced,
    Refusal,
)

BUY, SELL = Side.BUY, Side.SELL
US = 7


def of(kind: type[Any], events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def quoted() -> Exchange:
    """Bids 100:5, 99:2 and asks 101:3+4, 103:6, all of the flow's; nothing left to drain."""
    exchange = Exchange()
    for side, tick, lots in [
        (BUY, 100, 5),
        (BUY, 99, 2),
        (SELL, 101, 3),
        (SELL, 101, 4),
        (SELL, 103, 6),
    ]:
        assert exchange.place(0, FLOW, side, tick, lots).rests == lots
    exchange.drain()
    return exchange


def test_shows_its_book() -> None:
    exchange = quoted()
    assert exchange.touch() == (100, 5, 101, 7)
    assert exchange.levels(BUY) == [(100, 5), (99, 2)]
    assert exchange.levels(SELL, 1) == [(101, 7)]
    assert exchange.best(SELL) == (101, 7)
    assert [exchange.behind(SELL, tick) for tick in (101, 102, 104)] == [101, 103, 0]
    assert [exchange.behind(BUY, tick) for tick in (101, 99, 98)] == [100, 99, 0]
    assert (exchange.lots(SELL, 101), exchange.lots(SELL, 102)) == (7, 0)
    assert [seen.left for seen in exchange.queue(SELL, 101)] == [3, 4]
    assert exchange.newest(SELL, 101, FLOW, 1) == [(4, 4)]
    assert repr(exchange) == "<Exchange u=5 100:5 / 101:7 orders=5>"


def test_an_empty_book_has_no_touch() -> None:
    exchange = Exchange()
    assert exchange.touch() == (0, 0, 0, 0)
    assert exchange.best(BUY) is None
    assert exchange.behind(BUY, 1) == 0
    assert exchange.levels(BUY) == exchange.queue(BUY, 1) == exchange.newest(BUY, 1, 0, 1) == []


def test_takes_the_best_price_then_the_oldest_order() -> None:
    exchange = quoted()
    assert exchange.place(9, FLOW, BUY, 103, 9) == Placed(6, filled=9)
    assert exchange.drain() == [
        Printed(9, 1, 101, 3, BUY, 3, 6),
        Printed(9, 2, 101, 4, BUY, 4, 6),
        LevelSet(6, SELL, 101, 0),
        Printed(9, 3, 103, 2, BUY, 5, 6),
        LevelSet(7, SELL, 103, 4),
    ]
    assert exchange.net_taken == 9


def test_rests_what_its_limit_leaves() -> None:
    exchange = quoted()
    assert exchange.place(9, FLOW, SELL, 100, 8) == Placed(6, filled=5, rests=3)
    assert exchange.touch() == (99, 2, 100, 3)
    assert exchange.net_taken == -5


def test_reports_a_taker_to_its_owner() -> None:
    exchange = quoted()
    answer = exchange.place(9, US, BUY, None, 20, client_id="m")
    assert answer == Placed(6, filled=13)
    assert [event for event in exchange.drain() if not isinstance(event, LevelSet | Printed)] == [
        Opened(9, US, 6, "m", BUY, 0, 20),
        Executed(9, US, 6, "m", BUY, 1, 101, 3, False, 3, 17),
        Executed(9, US, 6, "m", BUY, 2, 101, 4, False, 7, 13),
        Executed(9, US, 6, "m", BUY, 3, 103, 6, False, 13, 7),
        Cancelled(9, US, 6, "m", 7, 13, True),
    ]
    assert exchange.best(SELL) is None


def test_reports_a_maker_to_its_owner_behind_the_queue() -> None:
    exchange = quoted()
    exchange.place(1, US, BUY, 100, 4, post_only=True, client_id="q")
    assert exchange.orders_of(US) == [exchange.order(6)]
    exchange.place(2, FLOW, SELL, 100, 6)
    exchange.place(3, FLOW, SELL, None, 3)
    assert of(Executed, exchange.drain()) == [
        Executed(2, US, 6, "q", BUY, 2, 100, 1, True, 1, 3),
        Executed(3, US, 6, "q", BUY, 3, 100, 3, True, 4, 0),
    ]
    assert exchange.orders_of(US) == []
    assert exchange.order(6) is None
    assert not exchange.cancel(4, 6)


def test_immediate_or_cancel_never_rests() -> None:
    exchange = quoted()
    assert exchange.place(9, US, SELL, 100, 7, ioc=True) == Placed(6, filled=5)
    assert of(Cancelled, exchange.drain()) == [Cancelled(9, US, 6, "", 2, 5, True)]
    assert exchange.best(SELL) == (101, 7)


def test_post_only_is_refused_at_the_opposite_touch() -> None:
    exchange = quoted()
    refused = exchange.place(9, US, SELL, 100, 1, post_only=True)
    assert refused == Placed(0, refusal=Refusal.WOULD_MATCH)
    assert not refused.accepted
    assert exchange.drain() == []
    assert exchange.place(9, US, BUY, 100, 1, post_only=True).order_id == 6


def test_a_full_book_refuses_what_would_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = quoted()
    monkeypatch.setattr(module, "ORDERS_MAX", 5)
    assert exchange.place(9, US, BUY, 98, 1).refusal is Refusal.BOOK_FULL
    assert exchange.place(9, US, BUY, 101, 1, ioc=True).filled == 1


def test_cancels_once() -> None:
    exchange = quoted()
    order_id = exchange.place(1, US, BUY, 98, 4, client_id="q").order_id
    exchange.drain()
    assert exchange.cancel(2, order_id)
    assert exchange.drain() == [LevelSet(7, BUY, 98, 0), Cancelled(2, US, 6, "q", 4, 0, False)]
    assert not exchange.cancel(3, order_id)
    assert not exchange.cancel(3, 99)


def test_a_reduced_order_keeps_its_place() -> None:
    exchange = quoted()
    first = exchange.place(1, US, BUY, 98, 4, client_id="q").order_id
    exchange.place(1, FLOW, BUY, 98, 1)
    exchange.drain()
    assert exchange.reduce(2, first, 3)
    assert exchange.drain() == [LevelSet(8, BUY, 98, 4), Reduced(2, US, 6, "q", 3)]
    assert [seen.order_id for seen in exchange.queue(BUY, 98)] == [6, 7]
    assert not exchange.reduce(3, first, 3)
    assert not exchange.reduce(3, 99, 1)


def test_ids_start_where_they_are_told() -> None:
    exchange = Exchange(first_id=1000)
    exchange.place(0, FLOW, BUY, 5, 1)
    exchange.place(0, FLOW, SELL, 5, 1)
    assert exchange.drain() == [
        LevelSet(1000, BUY, 5, 1),
        Printed(0, 1000, 5, 1, SELL, 1000, 1001),
        LevelSet(1001, BUY, 5, 0),
    ]


def test_newest_leaves_clients_alone() -> None:
    exchange = Exchange()
    for owner in (FLOW, US, FLOW):
        exchange.place(0, owner, BUY, 5, 2)
    assert exchange.newest(BUY, 5, FLOW, 2) == [(3, 2)]


# --- Against a naive book ------------------------------------------------------------------


class Rest(NamedTuple):
    order_id: int
    side: Side
    tick: int
    lots: int


class Naive:
    """A list of orders in time order: the best price is searched, fills are a plain loop."""

    def __init__(self) -> None:
        self.rests: list[Rest] = []

    def place(
        self, order_id: int, side: Side, tick: int | None, lots: int, rests: bool
    ) -> list[tuple[int, int, int]]:
        fills = []
        while lots:
            against = [
                rest
                for rest in self.rests
                if rest.side != side and (tick is None or side * (tick - rest.tick) >= 0)
            ]
            if not against:
                break
            best = min(against, key=lambda rest: (side * rest.tick, rest.order_id))
            traded = min(lots, best.lots)
            fills.append((best.order_id, best.tick, traded))
            lots -= traded
            self.change(best.order_id, best.lots - traded)
        if lots and rests and tick is not None:
            self.rests.append(Rest(order_id, side, tick, lots))
        return fills

    def change(self, order_id: int, left: int) -> None:
        self.rests = [
            rest._replace(lots=left) if rest.order_id == order_id else rest for rest in self.rests
        ]
        self.rests = [rest for rest in self.rests if rest.lots]

    def levels(self, side: Side) -> list[tuple[int, int]]:
        ticks = sorted({rest.tick for rest in self.rests if rest.side == side}, reverse=side > 0)
        return [
            (tick, sum(r.lots for r in self.rests if (r.side, r.tick) == (side, tick)))
            for tick in ticks
        ]


SIDES = st.sampled_from([BUY, SELL])
TICKS = st.integers(1, 12)
LOTS = st.integers(1, 9)


class AgainstNaive(RuleBasedStateMachine):
    """Random requests to both books; fills, levels, queues and public events must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.exchange = Exchange()
        self.naive = Naive()
        self.public: dict[Side, dict[int, int]] = {BUY: {}, SELL: {}}
        self.update_id = 0
        self.traded: dict[int, int] = {}

    @rule(
        owner=st.integers(0, 2),
        side=SIDES,
        tick=st.none() | TICKS,
        lots=LOTS,
        how=st.sampled_from(["", "ioc", "post_only"]),
    )
    def place(self, owner: int, side: Side, tick: int | None, lots: int, how: str) -> None:
        self.now += 1
        if tick is None and how == "post_only":
            how = ""
        best = self.exchange.best(Side(-side))
        crosses = best is not None and (tick is None or side * (tick - best[0]) >= 0)
        answer = self.exchange.place(
            self.now,
            owner,
            side,
            tick,
            lots,
            ioc=how == "ioc",
            post_only=how == "post_only",
        )
        assert answer.accepted == (not (how == "post_only" and crosses))
        events = self.exchange.drain()
        if not answer.accepted:
            assert events == []
            return
        fills = self.naive.place(answer.order_id, side, tick, lots, how != "ioc")
        prints = of(Printed, events)
        assert [(p.maker_order, p.tick, p.lots) for p in prints] == fills
        assert {p.taker_order for p in prints} <= {answer.order_id}
        assert answer.filled == sum(p.lots for p in prints)
        assert answer.filled + answer.rests in (lots, answer.filled)
        self.learn(events)

    @precondition(lambda self: self.naive.rests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        rest = data.draw(st.sampled_from(self.naive.rests))
        self.naive.change(rest.order_id, 0)
        assert self.exchange.cancel(self.now, rest.order_id)
        self.learn(self.exchange.drain())

    @precondition(lambda self: self.naive.rests)
    @rule(data=st.data(), left=LOTS)
    def reduce(self, data: st.DataObject, left: int) -> None:
        rest = data.draw(st.sampled_from(self.naive.rests))
        assert self.exchange.reduce(self.now, rest.order_id, left) == (left < rest.lots)
        if left < rest.lots:
            self.naive.change(rest.order_id, left)
        self.learn(self.exchange.drain())

    def learn(self, events: list[Any]) -> None:
        """Follow the public and the private stream as a client would."""
        for event in events:
            if isinstance(event, LevelSet):
                self.update_id += 1
                assert event.update_id == self.update_id
                self.public[event.side].pop(event.tick, None)
                if event.lots:
                    self.public[event.side][event.tick] = event.lots
            elif isinstance(event, Executed):
                assert event.owner != FLOW
                self.traded[event.order_id] = self.traded.get(event.order_id, 0) + event.lots
                assert event.cumulative == self.traded[event.order_id]

    @invariant()
    def agrees(self) -> None:
        for side in (BUY, SELL):
            levels = self.exchange.levels(side)
            assert levels == self.naive.levels(side)
            assert dict(levels) == self.public[side]
            for tick, lots in levels:
                queue = self.exchange.queue(side, tick)
                assert sum(seen.left for seen in queue) == lots
                assert [seen.order_id for seen in queue] == [
                    rest.order_id
                    for rest in self.naive.rests
                    if (rest.side, rest.tick) == (side, tick)
                ]

    @invariant()
    def never_crossed(self) -> None:
        bid, _, ask, _ = self.exchange.touch()
        assert not (bid and ask) or bid < ask

    @invariant()
    def clients_know_their_orders(self) -> None:
        known = {seen.order_id for owner in (1, 2) for seen in self.exchange.orders_of(owner)}
        assert known <= {rest.order_id for rest in self.naive.rests}


TestAgainstNaive = AgainstNaive.TestCase
TestAgainstNaive.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# --- Orders of one owner ------------------------------------------------------------------


def with_own_ask() -> tuple[Exchange, int]:
    """`quoted`, and one of ours between the two others at 101."""
    exchange = Exchange()
    exchange.place(0, FLOW, SELL, 101, 3)
    own = exchange.place(0, US, SELL, 101, 2, client_id="own").order_id
    exchange.place(0, FLOW, SELL, 101, 4)
    exchange.drain()
    return exchange, own


@pytest.mark.parametrize(
    ("self_trade", "traded", "expired", "rests", "left"),
    [
        (SelfTrade.NONE, [3, 2, 4], [], 1, 0),
        (SelfTrade.EXPIRE_TAKER, [3], [7], 0, 6),
        (SelfTrade.EXPIRE_MAKER, [3, 4], [2], 3, 0),
        (SelfTrade.EXPIRE_BOTH, [3], [2, 7], 0, 4),
    ],
)
def test_self_trade_prevention(
    self_trade: SelfTrade, traded: list[int], expired: list[int], rests: int, left: int
) -> None:
    exchange, own = with_own_ask()
    placed = exchange.place(1, US, BUY, 101, 10, client_id="taker", self_trade=self_trade)
    events = exchange.drain()
    assert [print_.lots for print_ in of(Printed, events)] == traded
    gone = of(Cancelled, events)
    assert [event.left for event in gone] == expired
    assert all(event.expired and event.prevented for event in gone)
    assert (placed.filled, placed.rests) == (sum(traded), rests)
    assert exchange.lots(SELL, 101) == left
    assert (exchange.order(own) is None) == (self_trade is not SelfTrade.EXPIRE_TAKER)
    assert exchange.net_taken == sum(traded)
    check_levels(exchange, events)


def test_strangers_trade_whatever_is_asked_for() -> None:
    exchange, _ = with_own_ask()
    placed = exchange.place(1, US + 1, BUY, 101, 9, self_trade=SelfTrade.EXPIRE_BOTH)
    assert placed.filled == 9


def check_levels(exchange: Exchange, events: list[Any]) -> None:
    """What levels were said to hold last is what they hold."""
    said = {(event.side, event.tick): event.lots for event in of(LevelSet, events)}
    assert all(exchange.lots(side, tick) == lots for (side, tick), lots in said.items())


def test_a_moved_order_keeps_its_id_and_loses_its_place() -> None:
    exchange, own = with_own_ask()
    assert exchange.move(1, own, 101, 5) == Placed(own, 0, 5)
    assert [seen.left for seen in exchange.queue(SELL, 101)] == [3, 4, 5]
    assert exchange.move(2, own, 102, 1) == Placed(own, 0, 1)
    events = exchange.drain()
    assert [(event.tick, event.left) for event in of(Moved, events)] == [(101, 5), (102, 1)]
    assert exchange.levels(SELL) == [(101, 7), (102, 1)]
    check_levels(exchange, events)
    assert exchange.move(3, 999, 101, 5) is None


def test_a_moved_order_trades_where_it_crosses() -> None:
    exchange, own = with_own_ask()
    exchange.place(0, FLOW, BUY, 99, 4)
    assert exchange.move(1, own, 99, 6) == Placed(own, 4, 2)
    assert exchange.order(own).cumulative == 4
    assert exchange.levels(SELL) == [(99, 2), (101, 7)]
    check_levels(exchange, exchange.drain())


def test_a_listener_hears_at_once_and_alone() -> None:
    exchange = quoted()
    heard: list[Any] = []
    exchange.listen(US, heard.append)
    exchange.place(1, US, BUY, 101, 4, client_id="a")
    assert [type(event) for event in heard] == [Opened, Executed, Executed]
    exchange.place(1, US + 1, BUY, 99, 4, client_id="b")
    mine, others = heard, of(Opened, exchange.drain())
    assert [event.owner for event in mine] == [US] * 3
    assert [event.owner for event in others] == [US + 1]
