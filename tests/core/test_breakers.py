"""Levels joined by max, the way back of each cause, and what is reported."""

import random
from math import exp

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.breakers import ALL_CLEAR, NOT_READY, Breakers, Permission, rules
from bot.core.signals.liquidity import Liquidity
from bot.core.triggers import Inputs, Severity, Verdict
from bot.domain.decisions import Rearm, Trip
from bot.domain.params import RiskParams
from bot.domain.units import DAY_NS, NS_PER_MS, NS_PER_S

START = 20_000 * DAY_NS + 3_600 * NS_PER_S
TICK_NS = 100 * NS_PER_MS
RISK = RiskParams(
    loss_budget=1_000.0, max_position_lots=1_000, max_order_lots=100, baseline_warmup_s=5.0
)
CALM = {"trusted": True, "distrust": "gap", "equity": 0.0, "position_lots": 0}
CALM |= {"depth_silence_ns": 0, "silence_ns": 0, "age_ns": 0, "gamma_multiplier": 1.0}
CALM |= {"spread_bps": 1.0, "sigma_ratio": 1.0}

GAP = {"trusted": False}
SILENT = {"depth_silence_ns": 5 * NS_PER_S, "silence_ns": 5 * NS_PER_S}
WILD = {"gamma_multiplier": 50.0}
THIN = {"bid": 5.0, "ask": 5.0}
WIDE = {"spread_bps": 50.0}


class Bench:
    """Liquidity and breakers as an engine runs them: every 100 ms, `learn` only while trusted."""

    def __init__(self, ready: bool = True, tick_ns: int = TICK_NS, **changes: float) -> None:
        self.risk = msgspec.structs.replace(RISK, **changes)
        self.liquidity = Liquidity(self.risk)
        self.breakers = Breakers(self.risk, withdraw_multiplier=50.0)
        self.now = START
        self.tick_ns = tick_ns
        self.inputs: dict[str, object] = dict(CALM)
        self.reports: list[Trip | Rearm] = []
        if ready:
            self.run(60.0)

    def tick(self, bid: float = 100.0, ask: float = 100.0, **changes: object) -> Permission:
        """One decide; `changes` of inputs count for this one only."""
        self.now += self.tick_ns
        inputs = self.inputs | changes
        if inputs["trusted"]:
            frozen = self.breakers.permission.severity is not Severity.ACTIVE
            self.liquidity.learn(self.now, bid, ask, float(str(inputs["spread_bps"])), frozen)
        else:
            self.liquidity.restart(self.now)
        permission = self.breakers.decide(self.now, Inputs(liquidity=self.liquidity, **inputs))
        assert permission is self.breakers.permission
        self.reports += self.breakers.reported
        return permission

    def run(self, seconds: float, **changes: object) -> Permission:
        for _ in range(round(seconds * NS_PER_S / self.tick_ns)):
            self.tick(**changes)
        return self.breakers.permission

    def until_allowed(self, most_s: float, **changes: object) -> float:
        """Seconds until a side is allowed again, from the last tick."""
        begun = self.now
        while self.now - begun < most_s * NS_PER_S:
            permission = self.tick(**changes)
            if permission.bids_allowed or permission.asks_allowed:
                return (self.now - begun) / NS_PER_S
        raise AssertionError(f"nothing allowed within {most_s} s: {self.breakers}")

    def trips(self) -> list[tuple[str, str]]:
        return [(r.level, r.cause) for r in self.reports if isinstance(r, Trip)]

    def rearms(self) -> list[tuple[str, float]]:
        return [(r.cause, r.size) for r in self.reports if isinstance(r, Rearm)]

    def ramp(self, seconds: float) -> list[tuple[float, float, float]]:
        """(seconds, size, spread) at each change of them."""
        changes, begun = (
            [(0.0, self.breakers.permission.size, self.breakers.permission.spread)],
            self.now,
        )
        while self.now - begun < seconds * NS_PER_S:
            permission = self.tick()
            if (permission.size, permission.spread) != changes[-1][1:]:
                changes.append(((self.now - begun) / NS_PER_S, permission.size, permission.spread))
        return changes


def allows(permission: Permission) -> tuple[bool, bool]:
    return permission.bids_allowed, permission.asks_allowed


PLAIN_RAMP = [(0.0, 0.25, 1.0), (30.0, 0.5, 1.0), (60.0, 0.75, 1.0), (90.0, 1.0, 1.0)]
STAGED_RAMP = [(0.0, 0.1, 3.0), (300.0, 0.25, 2.0), (600.0, 0.5, 1.5), (900.0, 1.0, 1.0)]


def test_no_book_yet_is_not_ready_and_no_trip() -> None:
    bench = Bench(ready=False)
    assert bench.breakers.permission is NOT_READY
    for permission in (bench.run(600.0, **GAP), bench.run(5.0, **GAP, **SILENT, age_ns=NS_PER_S)):
        assert permission == NOT_READY
    assert bench.tick() is ALL_CLEAR  # the first start is at full size
    assert bench.reports == []


def test_a_trip_before_the_first_book_holds_beyond_it() -> None:
    bench = Bench(ready=False)
    permission = bench.tick(**GAP, **WILD)
    assert permission == Permission(
        Severity.PAUSED, 0.0, 1.0, False, False, ("gamma_withdraw", "not_ready")
    )
    assert bench.trips() == [("PAUSED", "gamma_withdraw")]
    assert bench.run(60.0, **GAP) == NOT_READY
    assert bench.tick().size == 0.25
    assert bench.rearms() == [("gamma_withdraw", 0.25)]


def test_a_widening_before_the_first_book_allows_nothing() -> None:
    bench = Bench(ready=False)
    bench.tick(**GAP)
    permission = bench.tick(**GAP, equity=-100.0)
    assert (permission.severity, allows(permission)) == (Severity.PAUSED, (False, False))


@pytest.mark.parametrize(
    ("changes", "cause", "cooldown_s"),
    [
        (GAP, "book_untrusted:gap", 2.0),
        (SILENT, "stale:silence", 3.0),
        ({"age_ns": 501 * NS_PER_MS}, "stale:age", 3.0),
        (WILD, "gamma_withdraw", 10.0),
    ],
)
def test_plain_causes_pause_and_come_back_in_steps(
    changes: dict[str, object], cause: str, cooldown_s: float
) -> None:
    bench = Bench()
    permission = bench.run(60.0, **changes)
    assert permission == Permission(Severity.PAUSED, 0.0, 1.0, False, False, (cause,))
    assert bench.trips() == [("PAUSED", cause)]
    bench.run(cooldown_s)  # the first quiet tick starts the clock
    bench.run(0.2, **changes)
    assert bench.until_allowed(20.0) == pytest.approx(cooldown_s + 0.1)
    assert bench.breakers.permission == Permission(Severity.WIDEN, 0.25, 1.0, True, True, ("ramp",))
    assert bench.ramp(100.0) == PLAIN_RAMP
    assert bench.breakers.permission is ALL_CLEAR
    assert bench.trips() == [("PAUSED", cause)]
    assert bench.rearms() == [(cause, 0.25)]


def test_the_reason_of_a_lost_book_may_change_without_a_second_trip() -> None:
    bench = Bench()
    bench.run(1.0, **GAP)
    assert bench.tick(**GAP | {"distrust": "crossed"}).causes == ("book_untrusted:crossed",)
    assert bench.trips() == [("PAUSED", "book_untrusted:gap")]


def test_a_minute_of_loss_widens_without_a_trip() -> None:
    bench = Bench()
    assert bench.tick(equity=-99.9) is ALL_CLEAR
    bench.inputs["equity"] = -100.0
    assert bench.tick() == Permission(Severity.WIDEN, 1.0, 2.0, True, True, ("loss_1m",))
    assert bench.run(88.0).severity is Severity.WIDEN  # a minute in the window, 30 s quiet
    assert bench.run(4.0) is ALL_CLEAR
    assert bench.reports == []


def test_five_minutes_of_loss_pause_twice_a_day_then_halt() -> None:
    bench = Bench(loss_1h_fraction=50.0, loss_day_fraction=50.0)
    for lost in (0.0, 250.0):
        bench.inputs["equity"] = -lost - 249.9
        assert bench.tick().severity is Severity.WIDEN
        bench.inputs["equity"] = -lost - 250.0
        assert bench.tick().severity is Severity.PAUSED
        assert bench.until_allowed(1_000.0) == pytest.approx(900.0)
        assert bench.ramp(100.0) == PLAIN_RAMP
    bench.inputs["equity"] = -750.0
    assert bench.tick().severity is Severity.HALTED
    assert bench.trips() == [("PAUSED", "loss_5m")] * 2 + [("HALTED", "loss_5m")]
    assert bench.run(1_000.0).severity is Severity.HALTED


def test_a_new_day_has_new_pauses() -> None:
    bench = Bench(loss_pauses_per_day_max=0)
    bench.tick(equity=-250.0)
    assert bench.breakers.permission.severity is Severity.HALTED
    bench = Bench(loss_pauses_per_day_max=1)
    bench.tick(equity=-250.0)
    assert bench.until_allowed(1_000.0) == pytest.approx(900.0)
    bench.now += DAY_NS
    bench.run(1.0)
    bench.tick(equity=-250.0)
    assert bench.trips() == [("PAUSED", "loss_5m")] * 2


def test_a_pause_for_loss_does_not_end_while_the_loss_goes_on() -> None:
    bench = Bench(loss_1h_fraction=50.0, loss_day_fraction=50.0)
    for second in range(1_200):
        bench.inputs["equity"] = -1.0 * second
        bench.run(1.0)
    assert bench.trips() == [("PAUSED", "loss_5m")]
    assert bench.breakers.permission.severity is Severity.PAUSED
    assert 50.0 < bench.until_allowed(400.0) < 300.0  # long after the pause of 15 min


@pytest.mark.parametrize(("fraction", "cause"), [(0.5, "loss_1h"), (1.0, "loss_day")])
def test_an_hour_or_a_day_of_loss_halts_until_an_operator(fraction: float, cause: str) -> None:
    bench = Bench(loss_5m_fraction=5.0, loss_1h_fraction=0.5 if fraction == 0.5 else 5.0)
    bench.inputs["equity"] = -1_000.0 * fraction
    assert bench.tick().severity is Severity.HALTED
    bench.inputs["equity"] = 0.0
    assert bench.run(7_200.0).severity is Severity.HALTED
    assert bench.trips() == [("HALTED", cause)]
    bench.breakers.operator_rearm(bench.now, "seen, position is flat")
    permission = bench.tick()
    assert (permission.size, allows(permission)) == (0.25, (True, True))
    assert bench.rearms() == [("operator:seen, position is flat", 0.25)]


def test_an_operator_clears_a_lost_hour_but_not_a_lost_day() -> None:
    bench = Bench(loss_1m_fraction=5.0, loss_5m_fraction=5.0)
    bench.inputs["equity"] = -600.0
    bench.tick()
    bench.breakers.operator_rearm(bench.now, "hour")
    assert allows(bench.tick()) == (True, True)
    bench.inputs["equity"] = -1_000.0
    bench.tick()
    bench.breakers.operator_rearm(bench.now, "day")
    assert bench.tick().severity is Severity.HALTED
    assert bench.trips() == [("HALTED", "loss_1h"), ("HALTED", "loss_day"), ("HALTED", "loss_day")]
    bench.now += DAY_NS
    bench.tick()
    bench.breakers.operator_rearm(bench.now, "a new day")
    assert allows(bench.tick()) == (True, True)


def test_inventory_pulls_the_increasing_side_at_full_size() -> None:
    bench = Bench()
    assert bench.tick(position_lots=799) is ALL_CLEAR
    permission = bench.run(60.0, position_lots=800)
    assert permission == Permission(Severity.ONE_SIDED, 1.0, 1.0, False, True, ("inventory",))
    assert allows(bench.tick(position_lots=-800)) == (True, False)
    assert bench.tick(position_lots=699) is ALL_CLEAR
    assert bench.reports == []


def test_a_full_inventory_pauses_then_reduces_only() -> None:
    bench = Bench()
    bench.inputs["position_lots"] = -1_000
    assert bench.tick() == Permission(Severity.PAUSED, 0.0, 1.0, False, False, ("inventory",))
    assert bench.until_allowed(10.0) == pytest.approx(5.0)
    permission = bench.breakers.permission
    assert (permission.severity, permission.size, allows(permission)) == (
        Severity.REDUCE_ONLY,
        0.25,
        (True, False),
    )
    assert bench.rearms() == [("inventory", 0.25)]
    assert bench.run(600.0).severity is Severity.REDUCE_ONLY
    bench.inputs["position_lots"] = -701
    assert bench.tick().severity is Severity.REDUCE_ONLY
    bench.inputs["position_lots"] = -699
    assert bench.tick() is ALL_CLEAR
    assert bench.trips() == [("PAUSED", "inventory")]


def test_more_than_a_full_inventory_halts() -> None:
    bench = Bench()
    assert bench.tick(position_lots=1_050).severity is Severity.PAUSED
    assert bench.tick(position_lots=1_051).severity is Severity.HALTED
    assert bench.run(60.0).severity is Severity.HALTED
    assert bench.trips() == [("PAUSED", "inventory"), ("HALTED", "inventory")]


def test_fill_speed_freezes_twice_as_long_each_time() -> None:
    bench = Bench()
    waits = []
    for _ in range(4):
        bench.breakers.filled(bench.now, 350)
        assert bench.tick().severity is Severity.PAUSED
        waits.append(bench.until_allowed(400.0))
    assert waits == pytest.approx([5.0, 10.0, 20.0, 40.0])
    assert bench.trips() == [("PAUSED", "fill_speed")] * 4
    bench.now += 4 * 3_600 * NS_PER_S
    bench.breakers.filled(bench.now, -350)
    assert bench.tick().severity is Severity.PAUSED
    assert bench.until_allowed(400.0) == pytest.approx(5.0)


def test_fill_speed_freeze_is_capped_at_five_minutes() -> None:
    bench = Bench(fill_speed_freeze_s=200.0)
    waits = []
    for _ in range(3):
        bench.breakers.filled(bench.now, -500)
        bench.tick()
        waits.append(bench.until_allowed(400.0))
    assert waits == pytest.approx([200.0, 300.0, 300.0])


@pytest.mark.parametrize(("thin", "sides"), [("bid", (False, True)), ("ask", (True, False))])
def test_one_thin_side_is_pulled_and_never_pauses(thin: str, sides: tuple[bool, bool]) -> None:
    bench = Bench()
    assert bench.run(1.3, **{thin: 10.5}).severity is Severity.ACTIVE  # low from 1.0 s, held 0.3 s
    permission = bench.run(600.0, **{thin: 10.5})
    assert permission == Permission(Severity.ONE_SIDED, 1.0, 2.0, *sides, (f"depth_{thin}",))
    assert bench.run(60.0, **{thin: 47.0}).severity is Severity.ONE_SIDED  # above .30, not above .5
    assert bench.run(9.9, **{thin: 90.0}).severity is Severity.ONE_SIDED
    assert bench.run(2.0, **{thin: 90.0}) is ALL_CLEAR
    assert bench.reports == []


def test_a_side_nearly_gone_pauses() -> None:
    bench = Bench()
    bench.run(20.0, bid=9.0)
    assert bench.trips() == [("PAUSED", "depth")]


def test_a_cliff_trips_within_a_second() -> None:
    bench = Bench()
    begun = bench.now
    while not bench.trips():
        bench.tick(**THIN)
    assert bench.now - begun <= NS_PER_S
    assert bench.trips() == [("PAUSED", "depth")]


@pytest.mark.parametrize("changes", [THIN, WIDE])
def test_liquidity_comes_back_through_the_gate_and_four_stages(changes: dict[str, object]) -> None:
    cause = "depth" if changes is THIN else "spread"
    bench = Bench()
    bench.run(600.0, **changes)
    assert bench.trips() == [("PAUSED", cause)]
    wait = bench.until_allowed(200.0)
    # The smoothed depth needs half a second to pass one half.
    assert wait == pytest.approx(120.1 if changes is WIDE else 120.6, abs=0.11)
    assert bench.rearms() == [(cause, 0.1)]
    assert bench.breakers.permission == Permission(Severity.WIDEN, 0.1, 3.0, True, True, ("ramp",))
    assert bench.ramp(1_000.0) == STAGED_RAMP
    assert bench.breakers.permission is ALL_CLEAR


@pytest.mark.parametrize(
    "broken",
    [
        {"bid": 40.0},
        {"ask": 40.0},
        {"spread_bps": 3.0},
        {"sigma_ratio": 3.0},
        SILENT,
        {"age_ns": NS_PER_S},
        GAP,
    ],
    ids=str,
)
def test_each_condition_of_the_gate_keeps_it_shut(broken: dict[str, object]) -> None:
    bench = Bench()
    bench.run(5.0, **WIDE)
    assert allows(bench.run(300.0, **broken)) == (False, False)
    bench.run(118.0)
    bench.run(2.0, **broken)  # for two seconds: smoothed depth must follow
    wait = bench.until_allowed(200.0)
    assert 119.9 < wait < 122.0


def test_depth_and_spread_of_one_event_are_not_a_second_trip() -> None:
    bench = Bench()
    bench.run(60.0, **THIN, **WIDE)
    assert bench.trips() == [("PAUSED", "depth"), ("PAUSED", "spread")]
    assert bench.until_allowed(130.0) > 119.0
    assert len(bench.rearms()) == 1


@pytest.mark.parametrize("wait_s", [0.0, 700.0, 1_500.0])
def test_a_second_liquidity_trip_within_half_an_hour_halts(wait_s: float) -> None:
    bench = Bench()
    bench.run(5.0, **THIN)
    bench.until_allowed(200.0)
    bench.run(wait_s)
    bench.run(5.0, **WIDE)
    assert bench.trips() == [("PAUSED", "depth"), ("HALTED", "spread")]
    assert bench.run(3_600.0).severity is Severity.HALTED
    bench.breakers.operator_rearm(bench.now, "looked")
    assert bench.tick().size == 0.1  # still the staged way back
    bench.run(5.0, **WIDE)
    assert bench.trips()[2:] == [("PAUSED", "spread")]  # the operator's word ends the count


def test_a_second_liquidity_trip_before_full_size_halts_however_late() -> None:
    bench = Bench()
    bench.run(5.0, **THIN)
    bench.run(2_000.0, bid=40.0)
    bench.until_allowed(200.0)
    bench.run(700.0)
    bench.run(5.0, **THIN)
    assert bench.trips() == [("PAUSED", "depth"), ("HALTED", "depth")]


def test_a_later_liquidity_trip_pauses_again() -> None:
    bench = Bench()
    bench.run(5.0, **THIN)
    bench.until_allowed(200.0)
    bench.run(1_800.0)
    bench.run(5.0, **THIN)
    assert bench.trips() == [("PAUSED", "depth")] * 2


def test_any_trip_sends_the_stages_back_to_the_first() -> None:
    bench = Bench()
    bench.run(5.0, **THIN)
    bench.until_allowed(200.0)
    assert bench.run(700.0).size == 0.5
    bench.run(1.0, **GAP)
    assert bench.until_allowed(5.0) == pytest.approx(2.1)
    assert bench.ramp(1_000.0) == STAGED_RAMP
    assert bench.rearms() == [("depth", 0.1), ("book_untrusted:gap", 0.1)]
    bench.run(1.0, **GAP)
    bench.until_allowed(5.0)
    assert bench.rearms()[2:] == [("book_untrusted:gap", 0.25)]


def test_a_trip_sends_the_plain_ramp_back() -> None:
    bench = Bench()
    bench.run(1.0, **GAP)
    bench.until_allowed(5.0)
    assert bench.run(70.0).size == 0.75
    bench.run(1.0, **GAP)
    bench.until_allowed(5.0)
    assert bench.ramp(100.0) == PLAIN_RAMP


def test_causes_are_joined_by_max_and_clear_alone() -> None:
    bench = Bench()
    bench.inputs |= {"position_lots": 850, "equity": -100.0}
    permission = bench.tick()
    assert (permission.severity, permission.causes) == (
        Severity.ONE_SIDED,
        ("loss_1m", "inventory"),
    )
    assert (permission.spread, allows(permission)) == (2.0, (False, True))
    bench.run(1.0, **GAP, **SILENT)
    bench.run(1.0, **SILENT)
    assert bench.breakers.permission.causes == (
        "loss_1m",
        "inventory",
        "book_untrusted:gap",
        "stale:silence",
    )
    bench.run(2.0, **SILENT)
    assert bench.breakers.permission.causes == ("loss_1m", "inventory", "stale:silence")
    assert bench.until_allowed(5.0) == pytest.approx(3.1)
    permission = bench.breakers.permission
    assert (permission.severity, permission.size, permission.spread) == (
        Severity.ONE_SIDED,
        0.25,
        2.0,
    )
    assert permission.causes == ("ramp", "loss_1m", "inventory")
    assert bench.rearms() == [("stale:silence", 0.25)]  # one for two causes


def test_widenings_do_not_multiply() -> None:
    bench = Bench()
    bench.run(60.0, bid=20.0)
    permission = bench.tick(bid=20.0, equity=-100.0)
    assert (permission.spread, permission.causes) == (2.0, ("loss_1m", "depth_bid"))
    bench = Bench()
    bench.run(5.0, **THIN)
    bench.until_allowed(200.0)
    permission = bench.tick(equity=-100.0)
    assert (permission.spread, permission.size, permission.causes) == (
        3.0,
        0.1,
        ("ramp", "loss_1m"),
    )


def test_a_rearm_names_what_held_quoting_back() -> None:
    bench = Bench()
    bench.breakers.latch(Verdict(Severity.HALTED, "operator_kill", {}))
    bench.tick(position_lots=800)
    bench.breakers.operator_rearm(bench.now, "over")
    bench.tick(position_lots=0)  # the pulled side returns in the same call
    assert bench.rearms() == [("operator:over", 0.25)]


def test_a_halt_outlives_a_pause_that_came_later() -> None:
    bench = Bench()
    bench.tick(position_lots=1_051)
    bench.run(1.0, **GAP)
    assert bench.run(60.0).severity is Severity.HALTED
    assert bench.breakers.permission.causes == ("inventory",)


def test_an_operator_does_not_shorten_a_pause() -> None:
    bench = Bench()
    bench.run(1.0, **WIDE)
    bench.run(0.2, **WIDE)
    before = repr(bench.breakers)
    bench.breakers.operator_rearm(bench.now, "impatient")
    assert repr(bench.breakers) == before
    assert allows(bench.run(60.0)) == (False, False)


def test_a_halt_inside_a_pause_clears_to_the_pause() -> None:
    bench = Bench()
    bench.run(1.2, **WIDE)
    bench.tick(position_lots=1_051)
    bench.run(5.0)
    bench.breakers.operator_rearm(bench.now, "position is right")
    assert bench.tick().causes == ("spread",)
    assert 110.0 < bench.until_allowed(130.0) < 121.0
    assert bench.rearms() == [("spread", 0.1)]


def test_an_operator_needs_a_reason() -> None:
    bench = Bench()
    bench.tick(position_lots=1_051)
    with pytest.raises(ValueError, match="typed reason"):
        bench.breakers.operator_rearm(bench.now, "  ")
    assert bench.tick().severity is Severity.HALTED


def test_a_latch_from_outside() -> None:
    bench = Bench()
    bench.breakers.latch(Verdict(Severity.HALTED, "operator_kill", {}))
    assert bench.tick().causes == ("operator_kill",)
    assert bench.trips() == [("HALTED", "operator_kill")]
    bench.breakers.operator_rearm(bench.now, "over")
    assert bench.tick().size == 0.25
    bench.breakers.latch(Verdict(Severity.HALTED, "operator_kill", {}))
    bench.breakers.latch(Verdict(Severity.LOCKED, "drawdown", {}))
    assert bench.tick().severity is Severity.LOCKED
    with pytest.raises(AssertionError):
        bench.breakers.latch(Verdict(Severity.PAUSED, "too_little", {}))


def test_an_operator_does_not_clear_what_is_locked() -> None:
    bench = Bench()
    bench.breakers.latch(Verdict(Severity.LOCKED, "drawdown", {}))
    bench.breakers.latch(Verdict(Severity.HALTED, "operator_kill", {}))
    bench.tick(position_lots=1_051)
    bench.run(5.0)
    bench.breakers.operator_rearm(bench.now, "please")
    assert bench.tick() == Permission(Severity.LOCKED, 0.0, 1.0, False, False, ("drawdown",))
    assert bench.trips() == [("HALTED", "inventory"), ("LOCKED", "drawdown")]


def test_a_latch_of_an_earlier_run_holds_from_the_first_decide() -> None:
    bench = Bench(ready=False)
    bench.breakers.latch(Verdict(Severity.HALTED, "loss_1h", {}))
    assert bench.tick().severity is Severity.HALTED
    assert bench.run(60.0).severity is Severity.HALTED


def test_the_seventh_rearm_of_a_day_halts() -> None:
    bench = Bench()
    for _ in range(6):
        bench.run(0.5, **WILD)
        bench.until_allowed(15.0)
    bench.run(0.5, **WILD)
    assert bench.run(60.0).causes == ("rearms_per_day",)
    assert bench.trips()[-2:] == [("PAUSED", "gamma_withdraw"), ("HALTED", "rearms_per_day")]
    assert len(bench.rearms()) == 6
    bench.breakers.operator_rearm(bench.now, "calm again")
    assert bench.tick().size == 0.25
    for _ in range(6):  # and these six are counted anew
        bench.run(0.5, **WILD)
        bench.until_allowed(15.0)
    bench.run(0.5, **WILD)
    assert bench.run(15.0).severity is Severity.HALTED


def test_a_feed_may_be_lost_more_often_but_not_all_day() -> None:
    bench = Bench()
    for _ in range(6):
        bench.run(0.5, **WILD)
        bench.until_allowed(15.0)
    for _ in range(48):
        bench.run(0.5, **GAP)
        bench.until_allowed(5.0)
    bench.run(0.5, **GAP)
    assert bench.run(5.0).causes == ("rearms_per_day",)
    assert bench.trips()[-2:] == [("PAUSED", "book_untrusted:gap"), ("HALTED", "rearms_per_day")]


def test_a_feed_lost_in_a_wild_market_counts_as_the_market() -> None:
    bench = Bench()
    for _ in range(6):
        bench.run(0.5, **WILD)
        bench.run(0.5, **GAP)
        bench.until_allowed(15.0)
    bench.run(0.5, **GAP)
    bench.run(0.5, **WILD)
    assert bench.run(15.0).causes == ("rearms_per_day",)


def test_rearms_are_counted_per_utc_day() -> None:
    bench = Bench()
    for _ in range(10):
        bench.run(0.5, **GAP)
        bench.until_allowed(5.0)
        bench.now += DAY_NS // 3
        bench.run(1.0)
    assert bench.breakers.permission.severity < Severity.PAUSED


def test_time_does_not_go_back() -> None:
    bench = Bench()
    bench.now -= NS_PER_S
    with pytest.raises(AssertionError, match="time went back"):
        bench.tick()


def test_reports_are_those_of_the_last_call() -> None:
    bench = Bench()
    bench.tick(**GAP)
    evidence: dict[str, float] = {}
    assert bench.breakers.reported == [Trip("PAUSED", "book_untrusted:gap", evidence)]
    bench.tick(**GAP)
    assert bench.breakers.reported == []


def test_a_gap_during_a_short_wide_spread_is_no_blow_out() -> None:
    bench = Bench()
    bench.run(0.5, **WIDE)
    bench.run(5.0, **GAP, **WIDE)
    bench.run(0.5, **WIDE)
    assert bench.trips() == [("PAUSED", "book_untrusted:gap")]


@pytest.mark.parametrize("seed", range(4))
def test_noise_in_depth_never_trips(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench(baseline_warmup_s=300.0, depth_floor=50.0)
    raw_low = raw_both = 0
    for _ in range(20_000):
        bid, ask = 100.0 * exp(rng.gauss(0.0, 0.6)), 100.0 * exp(rng.gauss(0.0, 0.6))
        raw_low += min(bid, ask) < 0.3 * 100.0
        raw_both += max(bid, ask) < 0.4 * 100.0
        assert bench.tick(bid, ask, spread_bps=exp(rng.gauss(0.0, 0.7))) is ALL_CLEAR
    assert bench.liquidity.warm
    assert raw_low > 100  # raw readings would have tripped
    assert raw_both > 10
    assert bench.reports == []


@pytest.mark.parametrize("seed", range(4))
def test_one_noisy_thin_side_never_pauses(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench()
    bench.run(300.0)
    for _ in range(20_000):
        ask = 29.4 * exp(rng.gauss(-0.02, 0.2))
        permission = bench.tick(100.0 * exp(rng.gauss(-0.02, 0.2)), ask)
        assert permission.bids_allowed
    assert bench.breakers.permission.severity is Severity.ONE_SIDED
    assert bench.reports == []


SEGMENTS = {
    "calm": {},
    "gap": GAP,
    "silent": SILENT,
    "wild": WILD,
    "thin": THIN,
    "half": {"bid": 40.0},
    "wide": WIDE,
    "full": {"position_lots": 1_000},
    "most": {"position_lots": -800},
    "missed": {"position_lots": 1_060},
    "loss": {"equity": -260.0},
    "ruin": {"equity": -700.0},
}
PLAIN_S = {"book_untrusted:gap": 2.0, "stale:silence": 3.0, "gamma_withdraw": 10.0}
PLAIN_S |= {"inventory": 5.0, "fill_speed": 5.0, "loss_5m": 900.0}


class Oracle:
    """What must hold whatever happens, from the trips alone."""

    def __init__(self) -> None:
        self.halted = False
        self.not_before = 0
        self.shut_at: int | None = None  # the staged gate was last seen shut, after such a trip

    def see(self, bench: Bench, what: str, permission: Permission) -> None:
        now = bench.now
        for report in bench.breakers.reported:
            if isinstance(report, Rearm):
                assert 0.0 < report.size <= 0.25
                assert not self.halted
                continue
            self.halted = self.halted or report.level == "HALTED"
            if report.cause in ("depth", "spread"):
                self.shut_at = now
            else:
                wait_s = PLAIN_S.get(report.cause, 0.0)
                self.not_before = max(self.not_before, now + round(wait_s * NS_PER_S))
        thin = min(bench.liquidity.bid_ratio, bench.liquidity.ask_ratio) <= 0.5
        if self.shut_at is not None and (thin or what in ("gap", "silent", "wide")):
            self.shut_at = now
        allowed = permission.bids_allowed or permission.asks_allowed
        assert (permission.size > 0.0) == (permission.severity < Severity.PAUSED)
        assert 0.0 <= permission.size <= 1.0 <= permission.spread
        if permission.severity >= Severity.PAUSED:
            assert not allowed
        if what in ("gap", "silent", "wild", "missed", "ruin"):
            assert not allowed
        if what == "full":
            assert not permission.bids_allowed
        if what == "most":
            assert not permission.asks_allowed
        if allowed:
            assert not self.halted
            assert now >= self.not_before
            assert self.shut_at is None or now - self.shut_at >= 120 * NS_PER_S
            self.shut_at = None

    def operator(self) -> None:
        self.halted, self.not_before, self.shut_at = False, 0, None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["calm", *SEGMENTS, "fills", "operator"]),
            st.sampled_from([0.25, 1.0, 3.0, 20.0, 125.0, 950.0]),
        ),
        max_size=8,
    )
)
def test_nothing_is_allowed_before_its_gate(segments: list[tuple[str, float]]) -> None:
    bench, oracle = Bench(tick_ns=250 * NS_PER_MS), Oracle()
    for what, seconds in segments:
        if what == "fills":
            bench.breakers.filled(bench.now, 400)
        if what == "operator":
            for _ in range(24):  # a person is slower than the pause of a full inventory
                oracle.see(bench, what, bench.tick())
            bench.breakers.operator_rearm(bench.now, "checked")
            oracle.operator()
        for _ in range(round(seconds * NS_PER_S / bench.tick_ns)):
            permission = bench.tick(**SEGMENTS.get(what, {}))
            oracle.see(bench, what, permission)


def test_the_table_has_every_cause_once() -> None:
    names = [rule.trigger.__name__ for rule in rules(RISK)]
    assert len(names) == len(set(names)) == 18
    assert [r.trigger.__name__ for r in rules(RISK) if r.staged] == ["depth", "spread"]


def test_repr_tells_what_holds() -> None:
    bench = Bench()
    bench.tick(**WILD)
    text = repr(bench.breakers)
    assert "Breaker(gamma_withdraw, Verdict(severity=<Severity.PAUSED: 4>" in text
    assert "Ramp(full)" in text


def test_tightened_limits_are_judged_by_from_then_on() -> None:
    bench = Bench()
    assert allows(bench.run(1.0, position_lots=600)) == (True, True)
    bench.breakers.tighten(msgspec.structs.replace(RISK, max_position_lots=600))
    bench.tick(position_lots=600)
    assert bench.trips() == [("PAUSED", "inventory")]


# --- order entry ---------------------------------------------------------------------------


def test_an_obstacle_lets_go_after_a_quiet_second_and_size_comes_back_in_steps() -> None:
    bench = Bench()
    bench.run(3.0, obstacles=("reconcile",))
    assert bench.trips() == [("PAUSED", "execution:reconcile")]
    assert bench.until_allowed(5.0) == pytest.approx(1.1)
    assert bench.rearms() == [("execution:reconcile", 0.25)]
    assert [bench.run(30.0).size for _ in range(3)] == [0.5, 0.75, 1.0]


def test_an_unknown_order_that_is_settled_lets_go_and_one_that_is_not_halts() -> None:
    bench = Bench()
    bench.tick(unknown_ns=11 * NS_PER_S)
    assert bench.until_allowed(5.0) == pytest.approx(1.1)
    bench.tick(unknown_ns=61 * NS_PER_S)
    bench.run(60.0)
    assert bench.breakers.permission.severity is Severity.HALTED
    assert bench.trips()[-1] == ("HALTED", "unknown_order")


def test_pauses_after_refusals_double_up_to_an_hour() -> None:
    bench = Bench(tick_ns=NS_PER_S)
    pauses = []
    for _ in range(6):
        for _ in range(5):
            bench.breakers.refused(bench.now, post_only=False)
        bench.tick()
        pauses.append(bench.until_allowed(4_000.0))
    assert pauses == [60, 120, 240, 480, 960, 1920]


def test_an_acceptance_keeps_refusals_from_being_a_row() -> None:
    bench = Bench()
    for _ in range(3):
        for _ in range(9):
            bench.breakers.refused(bench.now, post_only=True)
        bench.breakers.accepted()
    assert allows(bench.tick()) == (True, True)
    for _ in range(10):
        bench.breakers.refused(bench.now, post_only=True)
    assert bench.tick().severity is Severity.PAUSED
    assert bench.until_allowed(10.0) == pytest.approx(5.0, abs=0.11)
