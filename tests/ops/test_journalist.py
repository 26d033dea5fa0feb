"""One line for each thing that a person wants to know, at the level that it deserves."""

from decimal import Decimal
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Resync, Trip
from bot.domain.events import (
    AccountEvent,
    Amended,
    AmendRejected,
    CancelRejected,
    Cleared,
    Event,
    FeedEvent,
    FeedLost,
    FeedOpened,
    Filled,
    FillRecovered,
    Funded,
    LimitsTightened,
    Obstructed,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
    QuotingStopped,
    Rearmed,
)
from bot.domain.params import RiskParams
from bot.domain.units import Side
from bot.ops.journalist import Journalist
from tests.ops.test_rows import BTC

RISK = RiskParams(loss_budget=1.0, max_position_lots=100, max_order_lots=20)


def journalist() -> Journalist:
    return Journalist(structlog.get_logger(), BTC)


EVENTS = [
    (
        Filled(5, "m-1", "t", Side.SELL, 600_001, 7, True),
        ("info", "filled"),
        {"price": Decimal("60000.10"), "quantity": Decimal("0.007"), "side": "SELL", "at_ns": 5},
    ),
    (
        FillRecovered(5, "m-1", "t", Side.BUY, 600_001, 7, True, Decimal("-0.2"), "USDT"),
        ("info", "fill_recovered"),
        {"order": "m-1", "side": "BUY", "fee": Decimal("-0.2"), "fee_currency": "USDT"},
    ),
    (
        OrderExpired(5, "m-1", "self_trade"),
        ("warning", "order_expired"),
        {"order": "m-1", "reason": "self_trade"},
    ),
    (
        AmendRejected(5, "m-1", "filter"),
        ("warning", "amend_rejected"),
        {"order": "m-1", "reason": "filter"},
    ),
    (
        PositionAdopted(5, -7, 1_200_002, "reconcile"),
        ("warning", "position_adopted"),
        {"position": Decimal("-0.007"), "reason": "reconcile"},
    ),
    (Funded(5, Decimal("-0.3")), ("info", "funded"), {"amount": Decimal("-0.3")}),
    (
        Obstructed(5, "reconcile", "two reads differ"),
        ("error", "obstructed"),
        {"what": "reconcile", "detail": "two reads differ"},
    ),
    (Cleared(5, "reconcile"), ("info", "cleared"), {"what": "reconcile"}),
    (Amended(5, "m-1", 600_002, 7), ("debug", "Amended"), {"order": "m-1"}),
    (OrderRejected(5, "m-1", "would take"), ("warning", "order_rejected"), {"order": "m-1"}),
    (OutcomeLost(5, "m-1"), ("error", "outcome_lost"), {"order": "m-1"}),
    (FeedOpened(5, "public"), ("info", "feed_opened"), {"connection": "public"}),
    (FeedLost(5, "cut", "public"), ("warning", "feed_lost"), {"cause": "cut"}),
    (QuotingStopped(5, "SIGTERM"), ("info", "quoting_stopped"), {"reason": "SIGTERM"}),
    (LimitsTightened(5, RISK), ("warning", "limits_tightened"), {}),
    (Rearmed(5, "looked"), ("warning", "operator_rearmed"), {"reason": "looked"}),
    (OrderOpened(5, "m-1"), ("debug", "OrderOpened"), {"order": "m-1"}),
    (OrderCancelled(5, "m-1"), ("debug", "OrderCancelled"), {"order": "m-1"}),
    (CancelRejected(5, "m-1"), ("debug", "CancelRejected"), {"order": "m-1"}),
]


def test_every_kind_of_event_is_told_here() -> None:
    told = {type(event) for event, _, _ in EVENTS}
    assert told >= set(AccountEvent.__args__)
    assert told == set(Event.__args__) | set(FeedEvent.__args__)


@pytest.mark.parametrize(("event", "head", "fields"), EVENTS, ids=lambda one: type(one).__name__)
def test_an_event_is_one_line(event: Any, head: tuple[str, str], fields: dict[str, object]) -> None:
    with capture_logs() as lines:
        journalist().learned(event)
    (line,) = lines
    assert (line["log_level"], line["event"]) == head
    assert line.items() >= fields.items()


DECISIONS = [
    (
        Trip("HALTED", "loss_day", {"loss": 501.5}),
        ("error", "tripped"),
        {"severity": "HALTED", "cause": "loss_day", "evidence_loss": 501.5, "at_ns": 9},
    ),
    (Rearm("stale", 0.25), ("warning", "rearmed"), {"cause": "stale", "size": 0.25}),
    (Resync("crossed"), ("warning", "resync"), {"reason": "crossed"}),
    (Place("m-1", Side.BUY, 1, 1, 0), ("debug", "Place"), {"order": "m-1"}),
    (Amend("m-1", Side.BUY, 1, 1, 0), ("debug", "Amend"), {"order": "m-1"}),
    (Cancel("m-1"), ("debug", "Cancel"), {"order": "m-1"}),
]


def test_every_kind_of_decision_is_told_here() -> None:
    assert {type(decision) for decision, _, _ in DECISIONS} == set(Decision.__args__)


@pytest.mark.parametrize(
    ("decision", "head", "fields"), DECISIONS, ids=lambda one: type(one).__name__
)
def test_a_decision_is_one_line(
    decision: Decision, head: tuple[str, str], fields: dict[str, object]
) -> None:
    with capture_logs() as lines:
        journalist().decided(9, [decision])
    (line,) = lines
    assert (line["log_level"], line["event"]) == head
    assert line.items() >= fields.items()


def test_trust_and_its_loss() -> None:
    with capture_logs() as lines:
        journalist().trust(1, True)
        journalist().trust(2, False)
        journalist().decided(3, [])
    assert [(line["log_level"], line["event"], line["at_ns"]) for line in lines] == [
        ("info", "book_trusted", 1),
        ("warning", "book_distrusted", 2),
    ]
    assert repr(journalist()) == "<Journalist of BTCUSDT>"
