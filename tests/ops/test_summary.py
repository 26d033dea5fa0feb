"""Counts, times and halts of a run."""

import pytest

from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Resync, Trip
from bot.domain.events import Filled, FillRecovered, OrderCancelled, OrderOpened, OutcomeLost
from bot.domain.units import NS_PER_S, Side
from bot.ops.summary import Summary

START = 1_700_000_000 * NS_PER_S


class Table:
    def __init__(self) -> None:
        self.both = False

    def two_sided(self) -> bool:
        return self.both


class Stub:
    """As much of an engine as a summary sees."""

    def __init__(self) -> None:
        self.orders = Table()


class Run:
    """A summary fed at whole seconds from the start."""

    def __init__(self, trusted_at: int | None = 0) -> None:
        self.summary = Summary()
        self.engine = Stub()
        if trusted_at is not None:
            self.trust(trusted_at, True)

    def trust(self, at: float, trusted: bool) -> None:
        self.summary.trust(self.time(at), trusted)

    def sided(self, at: float, both: bool) -> None:
        """An acknowledgement that leaves orders on both sides, or not."""
        self.engine.orders.both = both
        self.summary.learned(OrderOpened(self.time(at), "a"), self.engine)

    def decided(self, at: float, *decisions: Decision) -> None:
        self.summary.decided(self.time(at), decisions, self.engine)

    def finish(self, at: float) -> Summary:
        self.summary.finish(self.time(at), self.engine)
        return self.summary

    def uptime(self, at: float) -> float:
        return self.summary.uptime(self.time(at))

    @staticmethod
    def time(at: float) -> int:
        return START + round(at * NS_PER_S)


def place(n: int) -> Place:
    return Place(f"o{n}", Side.BUY, 100, 1, 0)


def trip(cause: str, level: str = "PAUSED") -> Trip:
    return Trip(level, cause, {"x": 1.0})


def test_a_run_of_nothing() -> None:
    run = Run(trusted_at=None)
    summary = run.finish(100)
    assert summary.first_trusted_ns is None
    assert summary.untrusted_ns == 0
    assert summary.two_sided_ns == 0
    assert run.uptime(100) == 0.0
    assert summary.halts == []
    expected = "<Summary decisions=0 placed=0 amended=0 cancelled=0 fills=0 halts=0>"
    assert repr(summary) == expected


def test_counts() -> None:
    run = Run()
    run.decided(1, place(1), place(2))
    run.decided(2)
    run.decided(
        3,
        Cancel("o1"),
        Amend("o2", Side.BUY, 101, 1, 0),
        place(3),
        Resync("crossed"),
        trip("depth"),
    )
    for event in (
        OrderOpened(run.time(4), "o2"),
        Filled(run.time(4), "o2", "t1", Side.BUY, 100, 1, True),
        Filled(run.time(5), "o2", "t2", Side.BUY, 100, 1, True),
        FillRecovered(run.time(5), "old-9", "t3", Side.BUY, 100, 1, True),
        OrderCancelled(run.time(5), "o1"),
        OutcomeLost(run.time(6), "o3"),
    ):
        run.summary.learned(event, run.engine)
    summary = run.finish(10)
    assert (summary.decisions, summary.placed, summary.cancelled, summary.amended) == (3, 3, 1, 1)
    assert (summary.fills, len(summary.halts)) == (3, 1)
    assert repr(summary) == "<Summary decisions=3 placed=3 amended=1 cancelled=1 fills=3 halts=1>"


def test_uptime_is_the_time_with_both_sides_since_the_first_trust() -> None:
    run = Run(trusted_at=10)
    run.sided(12, True)
    run.sided(20, False)
    run.sided(25, True)
    summary = run.finish(30)
    assert summary.first_trusted_ns == run.time(10)
    assert summary.two_sided_ns == 13 * NS_PER_S
    assert run.uptime(30) == 13 / 20


def test_a_cancel_ends_the_uptime_when_it_is_decided() -> None:
    run = Run()
    run.sided(0, True)
    run.engine.orders.both = False  # the table knows of the cancel before the summary does
    run.decided(4, Cancel("a"))
    run.finish(10)
    assert run.uptime(10) == 0.4


def test_a_second_word_on_an_unchanged_table_counts_no_time_twice() -> None:
    run = Run()
    for at in (0, 2, 2, 5):
        run.sided(at, True)
    run.decided(6, place(1))
    run.finish(10)
    summary = run.finish(10)
    assert summary.two_sided_ns == 10 * NS_PER_S
    assert run.uptime(10) == 1.0


def test_reports_that_come_late_take_no_time_away() -> None:
    run = Run()
    run.sided(5, True)
    run.sided(3, True)
    assert run.finish(8).two_sided_ns == 3 * NS_PER_S


@pytest.mark.parametrize("at", [0, 5])
def test_there_is_no_uptime_at_or_before_the_first_trust(at: int) -> None:
    assert Run(trusted_at=5).uptime(at) == 0.0


def test_untrusted_time_counts_from_the_first_trust() -> None:
    run = Run(trusted_at=None)
    run.trust(0, False)
    run.trust(1, False)
    run.trust(10, True)
    assert run.summary.untrusted_ns == 0
    run.trust(12, False)
    run.trust(13, False)  # lost for another reason: the same interval
    run.trust(15, True)
    run.trust(16, True)
    run.trust(20, False)
    run.trust(20.5, True)
    assert run.summary.untrusted_ns == round(3.5 * NS_PER_S)
    assert run.summary.first_trusted_ns == run.time(10)


def test_finish_closes_an_untrusted_interval_once() -> None:
    run = Run()
    run.trust(4, False)
    assert run.finish(10).untrusted_ns == 6 * NS_PER_S
    assert run.finish(10).untrusted_ns == 6 * NS_PER_S
    run.trust(11, True)
    assert run.summary.untrusted_ns == 7 * NS_PER_S


def test_a_halt_keeps_what_tripped_and_when_quoting_came_back() -> None:
    run = Run()
    run.decided(1, trip("depth"), Cancel("a"))
    run.decided(2)
    assert run.summary.halts == [
        {
            "at_ns": run.time(1),
            "level": "PAUSED",
            "cause": "depth",
            "evidence": {"x": 1.0},
            "rearmed_ns": None,
        }
    ]
    run.decided(7, Rearm("depth", 0.1), place(1))
    assert run.summary.halts[0]["rearmed_ns"] == run.time(7)


def test_one_rearm_ends_every_open_halt_and_no_ended_one() -> None:
    run = Run()
    run.decided(1, trip("depth"))
    run.decided(3, Rearm("depth", 0.1))
    run.decided(5, trip("book_untrusted:gap"), trip("stale:silence"))
    run.decided(6, trip("loss_1h", "HALTED"))
    run.decided(9, Rearm("operator:ok", 0.25))
    run.decided(11, trip("spread"))
    halts = run.finish(20).halts
    assert [h["cause"] for h in halts] == [
        "depth",
        "book_untrusted:gap",
        "stale:silence",
        "loss_1h",
        "spread",
    ]
    ends = [run.time(3), run.time(9), run.time(9), run.time(9), None]
    assert [h["rearmed_ns"] for h in halts] == ends
    assert halts[3]["level"] == "HALTED"
