"""Facts become rows."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.core.orders import OrderFault, OrderTable
from bot.domain.decisions import Amend, Cancel, Place, Rearm, Resync, Trip
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Cleared,
    FeedLost,
    FeedOpened,
    Filled,
    FillRecovered,
    Funded,
    Obstructed,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
    Rearmed,
)
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.domain.view import PnlView, View
from bot.ops import rows
from bot.ops.rows import EQUITY, EVENT, FILL, ORDER, Fact, Note, Rows, derive

BTC = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
BUY = Place("a", Side.BUY, 618_002, 5, 1)
PNL = PnlView(
    total=Decimal("1E+2"),
    spread=Decimal("0.0000000123"),
    inventory=Decimal("-3.5"),
    maker_fees=Decimal("1"),
    rebates=Decimal("0"),
    taker_fees=Decimal("0"),
    funding=Decimal("0E-10"),
    unexplained=Decimal("0"),
)
VIEW = View(
    now=7,
    trusted=True,
    distrust="",
    level="ACTIVE",
    causes=(),
    bid_tick=618_002,
    ask_tick=618_003,
    fair_ticks=618_002.25,
    sigma_bp=0.5,
    sigma_fast_bp=0.6,
    sigma_slow_bp=0.4,
    base_gamma=0.1,
    gamma=0.2,
    gamma_multiplier=2.0,
    age_ns=1_000,
    reservation_ticks=618_001.0,
    half_spread_ticks=4.0,
    position_lots=-12,
    bids=(),
    asks=(),
    orders=(),
    pnl=PNL,
)


def derived(*records: tuple[int, Fact]) -> list[rows.Row]:
    return list(derive(BTC, records))


def last_order(*records: tuple[int, Fact]) -> tuple[object, ...]:
    """The last values of the one order that `records` speak of."""
    return [values for statement, values in derived(*records) if statement == ORDER][-1]


def fill(trade: str = "t", lots: int = 2, at: int = 3) -> Filled:
    return Filled(at, "a", trade, Side.BUY, 618_002, lots, True)


def test_an_order_from_placement_to_its_end() -> None:
    told: list[tuple[int, Fact]] = [(1, [BUY]), (2, OrderOpened(2, "a")), (3, fill())]
    placed = ("a", "BUY", "61800.20", "0.005", 1)
    assert last_order(*told[:1]) == (*placed, "PENDING_NEW", "0.000", 1, None, None, None, None)
    assert last_order(*told[:2]) == (*placed, "LIVE", "0.000", 1, 2, None, None, None)
    assert last_order(*told) == (*placed, "PARTIALLY_FILLED", "0.002", 1, 2, None, None, None)
    told += [(4, [Cancel("a")]), (5, OrderCancelled(5, "a"))]
    assert last_order(*told[:4]) == (*placed, "PENDING_CANCEL", "0.002", 1, 2, 4, None, None)
    assert last_order(*told) == (*placed, "CANCELLED", "0.002", 1, 2, 4, 5, None)
    told += [(6, fill("u", 3))]  # late, and it completes the order; the end stays where it was
    assert last_order(*told) == (*placed, "FILLED", "0.005", 1, 2, 4, 5, None)


def test_a_refusal_keeps_its_reason() -> None:
    values = last_order((1, [BUY]), (2, OrderRejected(2, "a", "would take")))
    assert values[5:] == ("REJECTED", "0.000", 1, None, None, 2, "would take")


def test_an_amended_order_has_its_new_price_and_size() -> None:
    told: list[tuple[int, Fact]] = [(1, [BUY]), (2, OrderOpened(2, "a"))]
    told += [(3, [Amend("a", Side.BUY, 618_001, 7, 0)]), (4, Amended(4, "a", 618_001, 7))]
    assert last_order(*told[:3])[2:6] == ("61800.20", "0.005", 0, "PENDING_AMEND")
    assert last_order(*told)[2:6] == ("61800.10", "0.007", 0, "LIVE")
    told += [(5, OrderExpired(5, "a", "dead_man"))]
    values = last_order(*told)
    assert (values[5], values[10], values[11]) == ("EXPIRED", 5, "dead_man")


def test_an_impossible_report_leaves_the_order_as_it_was() -> None:
    told: list[tuple[int, Fact]] = [(1, [BUY]), (2, OrderOpened(2, "a"))]
    assert len(derived(*told, (3, OrderRejected(3, "a", "no")))) == 2
    assert last_order(*told, (3, OrderRejected(3, "a", "no")))[5] == "LIVE"


def test_what_the_account_says_is_an_event_and_a_recovered_fill_also_a_fill() -> None:
    told = derived(
        (3, FillRecovered(3, "old", "t", Side.SELL, 618_002, 2, False, Decimal("0.1"), "USDT")),
        (4, PositionAdopted(4, -7, 1_236_001, "reconcile")),
        (5, Funded(5, Decimal("-0.3"))),
        (6, Obstructed(6, "dead_man", "no answer")),
        (7, Cleared(7, "dead_man")),
    )
    assert told[0] == (FILL, (3, "old", "t", "SELL", "61800.20", "0.002", 0, "0.1", "USDT"))
    assert [values[1] for statement, values in told[1:] if statement == EVENT] == [
        "FillRecovered",
        "PositionAdopted",
        "Funded",
        "Obstructed",
        "Cleared",
    ]
    assert json.loads(str(told[2][1][2])) == {"lots": -7, "reason": "reconcile", "tick2": 1_236_001}
    assert json.loads(str(told[3][1][2])) == {"amount": "-0.3"}


def test_a_fill_is_a_row_and_counts_once() -> None:
    told = derived((1, [BUY]), (3, fill()), (4, fill(at=4)))
    assert [values for statement, values in told if statement == FILL] == [
        (3, "a", "t", "BUY", "61800.20", "0.002", 1, None, None),
        # The table itself keeps the first.
        (4, "a", "t", "BUY", "61800.20", "0.002", 1, None, None),
    ]
    assert last_order((1, [BUY]), (3, fill()), (4, fill(at=4)))[6] == "0.002"


def test_a_report_of_an_order_nobody_placed() -> None:
    assert derived((1, OrderOpened(1, "z")), (2, [Cancel("z")])) == []
    assert [statement for statement, _ in derived((3, fill()))] == [FILL]


def test_old_orders_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ORDERS_MAX", 2)
    places: list[tuple[int, Fact]] = [
        (n, [Place(name, Side.SELL, 1, 1, 0)]) for n, name in enumerate("abc")
    ]
    assert len(derived(*places, (9, OrderOpened(9, "a")))) == 3
    assert len(derived(*places, (9, OrderOpened(9, "b")))) == 4


def test_equity_is_exact_text() -> None:
    ((statement, values),) = derived((7, VIEW))
    assert statement == EQUITY
    assert values[:5] == (7, "ACTIVE", 1, "-0.012", "61800.25")
    assert values[5:7] == (pytest.approx(61_800.225), pytest.approx(0.4))
    money = ("100", "0.0000000123", "-3.5", "1", "0", "0", "0.0000000000", "0")
    assert values[7:] == (*money, 2.0, 0.5, 1_000)


def test_an_untrusted_book_has_no_price() -> None:
    ((_, values),) = derived((7, msgspec.structs.replace(VIEW, trusted=False)))
    assert values[2:6] == (0, "-0.012", None, None)


def test_events() -> None:
    trip = Trip("PAUSED", "depth", {"ratio": 0.25})
    told = derived(
        (1, [trip, Rearm("depth", 0.5), Resync("gap")]),
        (2, Rearmed(2, "seen to")),
        (3, FeedLost(3, "overflow", "a")),
        (4, FeedOpened(4, "a")),
        (5, Note("Config", '{"q_max":"1"}')),
    )
    assert {statement for statement, _ in told} == {EVENT}
    assert [(at, kind, json.loads(str(detail))) for _, (at, kind, detail) in told] == [
        (1, "Trip", {"level": "PAUSED", "cause": "depth", "evidence": {"ratio": 0.25}}),
        (1, "Rearm", {"cause": "depth", "size": 0.5}),
        (1, "Resync", {"reason": "gap"}),
        (2, "Rearmed", {"reason": "seen to"}),
        (3, "FeedLost", {"cause": "overflow", "connection": "a"}),
        (4, "FeedOpened", {"connection": "a"}),
        (5, "Config", {"q_max": "1"}),
    ]


WORDS = ["opened", "rejected", "cancelled", "cancel rejected", "lost", "fill", "rest", "cancel"]
WORDS += ["amend", "amended", "amend rejected", "expired"]


@given(st.lists(st.sampled_from(WORDS), max_size=12))
@example(["opened", "fill", "cancel", "lost", "opened", "cancel", "cancel rejected", "fill"])
@example(["fill", "cancel", "cancelled", "opened", "fill", "cancel rejected", "lost", "rest"])
@example(["lost", "lost", "cancel", "rejected", "rejected", "lost"])
@example(["opened", "amend", "fill", "amended", "amend", "lost", "amend rejected", "expired"])
def test_states_are_those_of_the_order_table(words: list[str]) -> None:
    table, derivation = OrderTable(), Rows(BTC)
    table.placed(BUY, 1)
    (row,) = derivation.of(1, [BUY])
    for n, word in enumerate(words, 2):
        order = table.find("a")
        event = {
            "opened": OrderOpened(n, "a"),
            "rejected": OrderRejected(n, "a", "no"),
            "cancelled": OrderCancelled(n, "a"),
            "cancel rejected": CancelRejected(n, "a"),
            "lost": OutcomeLost(n, "a"),
            "fill": fill(f"t{n}", 1, n),
            "rest": fill(f"t{n}", max(1, order.remaining_lots), n),
            "cancel": Cancel("a"),
            "amend": Amend("a", Side.BUY, 618_003, order.filled_lots + 3, 1),
            "amended": Amended(n, "a", 618_003, max(1, order.amend_lots)),
            "amend rejected": AmendRejected(n, "a", "filter"),
            "expired": OrderExpired(n, "a", "self_trade"),
        }[word]
        try:
            if isinstance(event, Cancel):
                table.cancel_sent("a", n)
            elif isinstance(event, Amend):
                table.amend_sent(event, n)
            else:
                table.apply(event)
        except OrderFault:
            continue  # no such sequence: the engine stops there
        told = [event] if isinstance(event, Cancel | Amend) else event
        row = list(derivation.of(n, told))[-1]
        price, quantity = BTC.price(order.tick), BTC.quantity(order.lots)
        assert row[1][2:4] == (str(price), str(quantity))
        assert row[1][5] == order.state.name
        assert row[1][6] == str(BTC.quantity(order.filled_lots))
        assert (row[1][10] is None) == order.working
