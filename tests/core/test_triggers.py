"""Every trigger just below and just above its limit, and the memory behind it."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import triggers
from bot.core.signals.liquidity import Liquidity, Streak
from bot.core.triggers import Facts, Inputs, LossWindows, NetFills, Severity, Verdict
from bot.domain.params import RiskParams
from bot.domain.units import DAY_NS, NS_PER_MS, NS_PER_S, Side

START = 20_000 * DAY_NS + 12 * 3_600 * NS_PER_S
RISK = RiskParams(loss_budget=1_000.0, max_position_lots=1_000, max_order_lots=100)


def facts_of(now: int = START, ready: bool = True, **changes: object) -> Facts:
    """Facts after calm inputs with `changes`; those of liquidity go to it, streaks as ns."""
    facts = Facts(RISK, withdraw_multiplier=50.0)
    facts.ready = ready
    learn(facts, now, **changes)
    return facts


def learn(facts: Facts, now: int, **changes: object) -> None:
    liquidity = Liquidity(RISK)
    calm = Inputs(
        trusted=facts.ready,
        distrust="gap",
        equity=0.0,
        position_lots=0,
        liquidity=liquidity,
        depth_silence_ns=0,
        silence_ns=0,
        age_ns=0,
        gamma_multiplier=1.0,
        spread_bps=1.0,
        sigma_ratio=1.0,
    )
    own = {name: changes.pop(name) for name in list(changes) if name in Liquidity.__slots__}
    for name, value in own.items():
        streak = getattr(liquidity, name)
        if isinstance(streak, Streak):
            streak.ns = value
        else:
            setattr(liquidity, name, value)
    facts.learn(now, msgspec.structs.replace(calm, **changes))


def severity_of(verdict: Verdict | None) -> Severity:
    return Severity.ACTIVE if verdict is None else verdict.severity


def lost(seconds: int, loss: float) -> Facts:
    """A loss that began `seconds` ago."""
    facts = facts_of(equity=0.0)
    learn(facts, START + NS_PER_S, equity=-loss)
    learn(facts, START + seconds * NS_PER_S, equity=-loss)
    return facts


@pytest.mark.parametrize(
    ("trigger", "limit", "window_s", "level"),
    [
        (triggers.loss_1m, 100.0, 60, Severity.WIDEN),
        (triggers.loss_5m, 250.0, 300, Severity.PAUSED),
        (triggers.loss_1h, 500.0, 3_600, Severity.HALTED),
        (triggers.loss_day, 1_000.0, 36_000, Severity.HALTED),
    ],
)
def test_loss(
    trigger: Callable[[Facts, int], Verdict | None], limit: float, window_s: int, level: Severity
) -> None:
    assert severity_of(trigger(lost(window_s, limit - 0.01), START)) is Severity.ACTIVE
    assert severity_of(trigger(lost(window_s, limit), START)) is level
    beyond = level if trigger is triggers.loss_day else Severity.ACTIVE
    assert severity_of(trigger(lost(window_s + 1, limit), START)) is beyond
    verdict = trigger(lost(window_s, limit), START)
    assert verdict is not None
    assert verdict.evidence == {"change": -limit, "limit": -limit}


def test_a_gain_is_no_loss() -> None:
    facts = lost(30, -5_000.0)
    assert triggers.loss_1m(facts, START) is None
    assert triggers.loss_day(facts, START) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_inventory_levels(sign: int) -> None:
    facts = facts_of(position_lots=799 * sign)
    assert triggers.inventory(facts, START) is None
    learn(facts, START, position_lots=800 * sign)
    verdict = triggers.inventory(facts, START)
    assert verdict is not None
    assert (verdict.severity, verdict.side) == (Severity.ONE_SIDED, Side(sign))
    learn(facts, START, position_lots=700 * sign)
    assert severity_of(triggers.inventory(facts, START)) is Severity.ONE_SIDED
    learn(facts, START, position_lots=699 * sign)
    assert triggers.inventory(facts, START) is None
    learn(facts, START, position_lots=799 * sign)
    assert triggers.inventory(facts, START) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_a_full_inventory_pauses_then_only_reduces(sign: int) -> None:
    facts = facts_of(position_lots=1_000 * sign)
    end = START + 5 * NS_PER_S
    for now, lots, level, side in [
        (START, 1_000, Severity.PAUSED, None),
        (end - 1, 1_000, Severity.PAUSED, None),
        (end, 1_000, Severity.REDUCE_ONLY, Side(sign)),
        (end + 1, 1_050, Severity.REDUCE_ONLY, Side(sign)),
        (end + 1, 1_051, Severity.HALTED, None),
        (end + 2, 701, Severity.REDUCE_ONLY, Side(sign)),
        (end + 2, -900, Severity.REDUCE_ONLY, Side(-sign)),
        (end + 3, 700, Severity.ONE_SIDED, Side(sign)),
        (end + 4, 699, Severity.ACTIVE, None),
        (end + 5, 1_000, Severity.PAUSED, None),
        (end + 6, 0, Severity.PAUSED, None),
        (2 * end - START + 4, 0, Severity.PAUSED, None),
        (2 * end - START + 5, 0, Severity.ACTIVE, None),
    ]:
        learn(facts, now, position_lots=lots * sign)
        verdict = triggers.inventory(facts, now)
        assert severity_of(verdict) is level, lots
        assert (verdict.side if verdict else None) == side, lots


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("fills", "trips"),
    [
        ([(0.0, 349)], False),
        ([(0.0, 350)], True),
        ([(0.0, 200), (0.9, 150)], True),
        ([(0.0, 200), (1.1, 150)], False),
        ([(0.0, 200), (1.5, 200), (4.9, 99)], False),
        ([(0.0, 200), (1.5, 200), (4.9, 100)], True),
        ([(0.0, 200), (1.5, 200), (5.1, 100)], False),
        ([(0.0, 349), (0.1, -100), (0.2, 100)], False),
        ([(0.0, 600), (0.1, -600)], False),
    ],
)
def test_fill_speed(fills: list[tuple[float, int]], trips: bool, sign: int) -> None:
    facts = facts_of()
    now = START
    for seconds, lots in fills:
        now = START + round(seconds * NS_PER_S)
        for window in (facts.fills_1s, facts.fills_5s):
            window.learn(now, lots * sign)
    learn(facts, now)
    assert severity_of(triggers.fill_speed(facts, now)) is (
        Severity.PAUSED if trips else Severity.ACTIVE
    )


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(-50, 50)), max_size=60))
def test_net_fills_is_the_sum_over_its_window(fills: list[tuple[int, int]]) -> None:
    window, now, seen = NetFills(NS_PER_S), START, list[tuple[int, int]]()
    for wait_ms, lots in fills:
        now += wait_ms * NS_PER_MS
        window.learn(now, lots)
        window.forget(now)
        seen.append((now // (10 * NS_PER_MS), lots))
        oldest = seen[-1][0] - 100
        assert window.lots == sum(lots for slot, lots in seen if slot >= oldest)


def test_net_fills_memory_is_bounded() -> None:
    window = NetFills(NS_PER_S)
    for i in range(10_000):
        window.learn(START + i * NS_PER_MS, 1)
        window.forget(START + i * NS_PER_MS)
    assert repr(window) == "NetFills(lots=1010, slots=101)"


@pytest.mark.parametrize(
    ("trigger", "name", "side"),
    [
        (triggers.depth_bid, "low_bid", Side.BUY),
        (triggers.depth_ask, "low_ask", Side.SELL),
    ],
)
def test_one_thin_side_is_pulled_after_half_a_second(
    trigger: Callable[[Facts, int], Verdict | None], name: str, side: Side
) -> None:
    assert trigger(facts_of(**{name: 500 * NS_PER_MS - 1}), START) is None
    verdict = trigger(facts_of(**{name: 500 * NS_PER_MS}), START)
    assert verdict is not None
    assert (verdict.severity, verdict.side) == (Severity.ONE_SIDED, side)
    other = triggers.depth_ask if side is Side.BUY else triggers.depth_bid
    assert other(facts_of(**{name: 10 * NS_PER_S}), START) is None


@pytest.mark.parametrize(
    ("bid", "ask", "drop", "trips"),
    [
        (0.294, 0.56, 0.0, False),
        (0.56, 0.294, 0.0, False),
        (0.10, 5.0, 0.0, False),
        (0.0999, 5.0, 0.0, True),
        (5.0, 0.0999, 0.0, True),
        (0.2999, 0.30, 0.0, False),
        (0.2999, 0.2999, 0.0, True),
        (1.0, 1.0, 0.60, False),
        (1.0, 1.0, 0.6001, True),
    ],
)
def test_depth(bid: float, ask: float, drop: float, trips: bool) -> None:
    verdict = triggers.depth(facts_of(bid_ratio=bid, ask_ratio=ask, drop=drop), START)
    assert severity_of(verdict) is (Severity.PAUSED if trips else Severity.ACTIVE)
    if verdict is not None:
        assert verdict.evidence == {"bid_ratio": bid, "ask_ratio": ask, "drop_5s": drop}


def test_spread_must_stay_wide_for_a_second() -> None:
    assert triggers.spread(facts_of(), START) is None
    assert triggers.spread(facts_of(wide=NS_PER_S - 1), START) is None
    verdict = triggers.spread(facts_of(wide=NS_PER_S, spread_bps=11.0), START)
    assert verdict == Verdict(
        Severity.PAUSED, "spread", {"spread_bps": 11.0, "limit_bps": 10.0, "median_bps": 0.0}
    )


def test_a_narrow_spread_does_not_trip_without_a_hold() -> None:
    facts = facts_of()
    facts.risk = msgspec.structs.replace(RISK, spread_hold_s=0.0)
    assert triggers.spread(facts, START) is None
    learn(facts, START, wide=0)
    assert severity_of(triggers.spread(facts, START)) is Severity.PAUSED


def test_book_untrusted_carries_its_reason_and_needs_a_first_trust() -> None:
    assert triggers.book_untrusted(facts_of(ready=False, trusted=False), START) is None
    facts = facts_of(trusted=True)
    assert triggers.book_untrusted(facts, START) is None
    learn(facts, START, trusted=False, distrust="crossed")
    assert triggers.book_untrusted(facts, START) == Verdict(
        Severity.PAUSED, "book_untrusted:crossed", {}
    )


@pytest.mark.parametrize(
    ("depth_ms", "any_ms", "age_ms", "cause"),
    [
        (1_000, 0, 0, None),
        (1_001, 0, 0, "stale:silence"),
        (1_001, 1_000, 0, "stale:silence"),
        (1_002, 1_001, 0, None),  # everything is quiet: that is a calm market until 3 s
        (3_000, 3_000, 0, None),
        (3_001, 3_001, 0, "stale:silence"),
        (0, 0, 500, None),
        (0, 0, 501, "stale:age"),
        (0, 0, -5_000, None),
        (5_000, 5_000, 5_000, "stale:silence"),
    ],
)
def test_stale(depth_ms: int, any_ms: int, age_ms: int, cause: str | None) -> None:
    changes = {
        "depth_silence_ns": depth_ms * NS_PER_MS,
        "silence_ns": any_ms * NS_PER_MS,
        "age_ns": age_ms * NS_PER_MS,
    }
    verdict = triggers.stale(facts_of(**changes), START)
    assert (verdict.cause if verdict else None) == cause
    if verdict is not None:
        assert verdict.severity is Severity.PAUSED
        assert verdict.evidence["age_ms"] == age_ms
    assert triggers.stale(facts_of(ready=False, trusted=False, **changes), START) is None


def test_gamma_withdraw() -> None:
    assert triggers.gamma_withdraw(facts_of(gamma_multiplier=49.99), START) is None
    verdict = triggers.gamma_withdraw(facts_of(gamma_multiplier=50.0), START)
    assert verdict == Verdict(Severity.PAUSED, "gamma_withdraw", {"multiplier": 50.0})


def test_latched_is_what_was_put_there() -> None:
    facts = facts_of()
    assert triggers.latched(facts, START) is None
    facts.latched = Verdict(Severity.LOCKED, "drawdown", {})
    assert triggers.latched(facts, START) is facts.latched


def naive_change(path: list[tuple[int, float]], window_s: int) -> float:
    """Change since the first reading of the second `window_s` ago, held over gaps."""
    by_second: dict[int, float] = {}
    previous = None
    for second, equity in path:
        if second not in by_second:
            if previous is not None:
                for missed in range(previous[0] + 1, second):
                    by_second[missed] = previous[1]
            by_second[second] = equity
        previous = (second, equity)
    target = max(path[-1][0] - window_s, path[0][0])
    return path[-1][1] - by_second[target]


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(-100, 100)), min_size=1, max_size=40))
def test_windows_against_a_naive_one(steps: list[tuple[int, int]]) -> None:
    windows, path, second = LossWindows(), list[tuple[int, float]](), START // NS_PER_S
    for wait_s, equity in steps:
        second += wait_s
        path.append((second, float(equity)))
        windows.learn(second * NS_PER_S + 123, float(equity))
        assert windows.minute == naive_change(path, 60)
        assert windows.five_minutes == naive_change(path, 300)
        assert windows.hour == naive_change(path, 3_600)


def test_a_day_begins_at_midnight_utc_with_the_equity_before_it() -> None:
    windows = LossWindows()
    midnight = START + DAY_NS // 2
    assert midnight % DAY_NS == 0
    windows.learn(START, 100.0)
    windows.learn(midnight - 1, 40.0)
    assert windows.day == -60.0
    windows.learn(midnight, 30.0)
    assert windows.day == -10.0
    assert windows.hour == -70.0


def test_windows_survive_a_silence_of_days() -> None:
    windows = LossWindows()
    windows.learn(START, 100.0)
    windows.learn(START + 3 * DAY_NS, 70.0)
    assert (windows.minute, windows.hour, windows.day) == (-30.0, -30.0, -30.0)
    windows.learn(START + 3 * DAY_NS + 3_600 * NS_PER_S, 70.0)
    assert (windows.minute, windows.hour) == (0.0, 0.0)


def test_restart_forgets_the_hour_and_keeps_the_day() -> None:
    windows = LossWindows()
    windows.learn(START, 100.0)
    windows.learn(START + 30 * NS_PER_S, 90.0)
    windows.learn(START + 30 * NS_PER_S + 1, 20.0)
    windows.restart()
    assert repr(windows) == "LossWindows(minute=0, five_minutes=0, hour=0, day=-80)"
    windows.learn(START + 40 * NS_PER_S, 15.0)
    assert (windows.minute, windows.hour, windows.day) == (-5.0, -5.0, -85.0)


def test_restart_before_the_first_reading_is_nothing() -> None:
    windows = LossWindows()
    windows.restart()
    windows.learn(START, 100.0)
    assert (windows.hour, windows.day) == (0.0, 0.0)


def test_equity_must_be_a_number() -> None:
    with pytest.raises(AssertionError, match="equity"):
        LossWindows().learn(START, float("nan"))


@pytest.mark.parametrize("wrong", [{"loss_budget": 0.0}, {"max_position_lots": 0}])
def test_limits_must_be_there(wrong: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        Facts(msgspec.structs.replace(RISK, **wrong), 50.0)


def test_repr() -> None:
    facts = facts_of(position_lots=1_000)
    assert repr(facts) == (
        f"Facts(ready=True, inventory=1.000, full_since={START}, latched=None, "
        "LossWindows(minute=0, five_minutes=0, hour=0, day=0), "
        "1s=NetFills(lots=0, slots=0), 5s=NetFills(lots=0, slots=0))"
    )


# --- order entry ---------------------------------------------------------------------------


def test_an_obstacle_stops_and_names_the_oldest() -> None:
    assert triggers.execution(facts_of(), START) is None
    verdict = triggers.execution(facts_of(obstacles=("clock", "filters")), START)
    assert verdict == Verdict(Severity.PAUSED, "execution:clock", {"obstacles": 2.0})


def test_an_obstacle_before_the_first_quote_keeps_from_being_ready() -> None:
    facts = facts_of(ready=False)
    learn(facts, START, trusted=True, obstacles=("reconcile",))
    assert not facts.ready
    assert triggers.execution(facts, START) is None
    learn(facts, START, trusted=True)
    assert facts.ready
    learn(facts, START, obstacles=("reconcile",))
    assert facts.ready


@pytest.mark.parametrize(
    ("age_ns", "severity"),
    [
        (0, Severity.ACTIVE),
        (10 * NS_PER_S, Severity.ACTIVE),
        (10 * NS_PER_S + 1, Severity.PAUSED),
        (60 * NS_PER_S, Severity.PAUSED),
        (60 * NS_PER_S + 1, Severity.HALTED),
    ],
)
def test_an_unknown_order_grows_worse_with_age(age_ns: int, severity: Severity) -> None:
    verdict = triggers.unknown_order(facts_of(unknown_ns=age_ns), START)
    assert severity_of(verdict) is severity


@pytest.mark.parametrize(
    ("times_s", "storm"),
    [
        ([0, 1, 2, 3], False),
        ([0, 1, 2, 3, 10], True),
        ([0, 1, 2, 3, 10.001], False),
        ([0, 5, 6, 7, 8, 12], True),  # the first has left the window, five are in it
    ],
)
def test_a_storm_is_five_refusals_within_ten_seconds(times_s: list[float], storm: bool) -> None:
    facts = facts_of()
    now = START
    for second in times_s:
        now = START + round(second * NS_PER_S)
        facts.refusals.learn(now, post_only=False)
    assert severity_of(triggers.reject_storm(facts, now)) is (
        Severity.PAUSED if storm else Severity.ACTIVE
    )
    assert triggers.reject_storm(facts, now + 10 * NS_PER_S + 1) is None
    assert triggers.post_only_row(facts, now) is None


def test_a_row_is_ten_refusals_without_an_acceptance() -> None:
    facts = facts_of()
    for i in range(9):
        facts.refusals.learn(START + i, post_only=True)
    assert triggers.post_only_row(facts, START) is None
    facts.refusals.accepted()
    for i in range(10):
        assert triggers.post_only_row(facts, START) is None
        facts.refusals.learn(START + i, post_only=True)
    verdict = triggers.post_only_row(facts, START)
    assert verdict == Verdict(Severity.PAUSED, "post_only_row", {"rejects": 10.0})
    assert triggers.reject_storm(facts, START) is None


def test_a_row_starts_anew_after_five_quiet_seconds() -> None:
    facts = facts_of()
    for _ in range(10):
        facts.refusals.learn(START, post_only=True)
    learn(facts, START + 5 * NS_PER_S - 1)
    assert triggers.post_only_row(facts, START) is not None
    learn(facts, START + 5 * NS_PER_S)
    assert triggers.post_only_row(facts, START) is None
    assert "post_only_row=0" in repr(facts.refusals)


@pytest.mark.parametrize("side", list(Side))
def test_a_fill_beyond_its_limit(side: Side) -> None:
    assert triggers.fill_beyond_limit(side, 1000, 1000) is None
    assert triggers.fill_beyond_limit(side, 1000, 1000 - side) is None
    verdict = triggers.fill_beyond_limit(side, 1000, 1000 + side)
    assert verdict is not None
    assert (verdict.severity, verdict.cause) == (Severity.HALTED, "fill_beyond_limit")
    assert verdict.evidence == {"limit_tick": 1000.0, "fill_tick": 1000.0 + side}


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_position_that_differs_by_more_than_a_twentieth_of_the_limit(sign: int) -> None:
    assert triggers.position_mismatch(100, 100 + sign * 50, 1_000) is None
    verdict = triggers.position_mismatch(100, 100 + sign * 51, 1_000)
    assert verdict is not None
    assert (verdict.severity, verdict.cause) == (Severity.HALTED, "position_mismatch")
