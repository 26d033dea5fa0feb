"""The ring of notable events: order, bound, words."""

from decimal import Decimal

import pytest

from bot.domain.decisions import Amend, Cancel, Place, Rearm, Resync, Trip
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Cleared,
    Event,
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
from bot.domain.units import Side
from bot.ops.terminal_ticker import EventTicker
from tests.ops.screens import BTC


def words(ticker: EventTicker) -> list[str]:
    """Every event as `at kind times text`."""
    return [f"{e.at} {e.kind} {e.times} {e.text}" for e in ticker.events]


def test_what_is_notable_in_the_order_it_was_told() -> None:
    ticker = EventTicker(BTC)
    ticker.fed(FeedOpened(1, "depth"))
    ticker.trust(2, True)
    ticker.learned(Filled(3, "a", "t", Side.BUY, 1_156_221, 1_010, True), None)
    ticker.learned(Filled(4, "a", "u", Side.SELL, 1_156_221, 4, False), None)
    ticker.learned(OrderRejected(5, "b", "would take"), None)
    ticker.learned(OutcomeLost(6, "c"), None)
    ticker.fed(FeedLost(7, "silence", "depth"))
    ticker.trust(8, False)
    trip = Trip("PAUSED", "depth", {"bid_ratio": 0.25, "drop_5s": 1 / 3})
    ticker.decided(9, [trip, Resync("crossed")], None)
    ticker.decided(10, [Rearm("depth", 0.25)], None)
    ticker.learned(Rearmed(11, "looked at it"), None)
    ticker.learned(OrderExpired(12, "a", "self_trade"), None)
    ticker.learned(AmendRejected(13, "a", "filter"), None)
    ticker.learned(PositionAdopted(14, -1_010, 2_312_442, "reconcile"), None)
    ticker.learned(Funded(15, Decimal("-0.25")), None)
    ticker.learned(Obstructed(16, "dead_man", "no answer"), None)
    ticker.learned(Obstructed(17, "reconcile"), None)
    ticker.learned(Cleared(18, "dead_man"), None)
    ticker.learned(FillRecovered(19, "old", "t", Side.BUY, 1_156_221, 1_010, True), None)
    assert words(ticker) == [
        "1 feed 1 opened depth",
        "2 book 1 trusted",
        "3 fill 1 bought 1.010 at 115,622.1  maker",
        "4 fill 1 sold   0.004 at 115,622.1  TAKER",
        "5 rejected 1 would take",
        "6 unknown 1 no answer about c",
        "7 feed 1 lost depth: silence",
        "8 book 1 not trusted",
        "9 trip 1 PAUSED depth  bid_ratio=0.25 drop_5s=0.333333",
        "9 resync 1 new book asked for: crossed",
        "10 rearm 1 after depth at 25 % size",
        "11 operator 1 clears the halt: looked at it",
        "12 expired 1 self_trade",
        "13 rejected 1 amend: filter",
        "14 position 1 the venue's position counts: -1.010 (reconcile)",
        "15 funding 1 -0.25",
        "16 obstacle 1 dead_man: no answer",
        "17 obstacle 1 reconcile",
        "18 cleared 1 dead_man",
        "19 fill 1 bought 1.010 at 115,622.1  maker  recovered",
    ]


@pytest.mark.parametrize(
    "event",
    [OrderOpened(1, "a"), OrderCancelled(1, "a"), CancelRejected(1, "a"), Amended(1, "a", 2, 1)],
)
def test_the_daily_round_is_no_news(event: Event) -> None:
    ticker = EventTicker(BTC)
    ticker.learned(event, None)
    place, amend = Place("a", Side.BUY, 1, 1, 0), Amend("a", Side.BUY, 2, 1, 0)
    ticker.decided(1, [place, amend, Cancel("a")], None)
    assert ticker.events == ()
    assert repr(ticker) == "<EventTicker 0 events, ()>"


def test_the_ring_keeps_the_newest() -> None:
    ticker = EventTicker(BTC, limit=3)
    for at in range(10):
        ticker.learned(OutcomeLost(at, f"o{at}"), None)
    assert [event.at for event in ticker.events] == [7, 8, 9]


def test_a_storm_of_the_same_event_counts_up() -> None:
    ticker = EventTicker(BTC, limit=2)
    ticker.decided(1, [Trip("HALTED", "loss_1h", {})], None)
    for at in range(2, 1_002):
        ticker.learned(OrderRejected(at, f"o{at}", "banned"), None)
    assert words(ticker) == ["1 trip 1 HALTED loss_1h", "1001 rejected 1000 banned"]


def test_fills_are_never_folded() -> None:
    ticker = EventTicker(BTC)
    for at in range(3):
        ticker.learned(Filled(at, "a", str(at), Side.BUY, 100, 1, True), None)
    assert len(ticker.events) == 3


def test_a_ring_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for one event"):
        EventTicker(BTC, limit=0)
