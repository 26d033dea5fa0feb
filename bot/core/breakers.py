"""What stops the bot from quoting, and how it comes back.

Each row of the table `rules` is a cause: a trigger and its way back. Causes are independent
and joined by max; one that clears never lowers another (RISK 1, 2).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from bot.core import triggers
from bot.core.rearm import FULL, PLAIN, PLAIN_STEP_NS, STAGED, Cooldown, DailyCount, Ramp
from bot.core.triggers import Facts, Inputs, Severity, Verdict
from bot.domain.decisions import Rearm, Trip
from bot.domain.params import RiskParams
from bot.domain.units import NS_PER_S, Side

WIDE_FACTOR: Final = 2.0  # of the spread at WIDEN
CALM_RATIO: Final = 0.5  # MODEL 8.4: depth over baseline
CALM_SIGMA_X: Final = 3.0  # MODEL 8.4: sigma_fast over sigma_slow
SECOND_TRIP_NS: Final = 1_800 * NS_PER_S  # MODEL 8.4: a second one within 30 min halts
REARMS_PER_DAY_MAX: Final = 6  # by themselves; one more halts
CONNECTION_REARMS_PER_DAY_MAX: Final = 48  # where nothing but a connection had gone wrong
REJECT_PAUSE_S: Final = 60.0
REJECT_PAUSE_S_MAX: Final = 3_600.0
POST_ONLY_PAUSE_S: Final = 5.0


class Permission(msgspec.Struct, frozen=True):
    """What quoting may do now. `size` is 0 and no side is allowed at PAUSED and above."""

    severity: Severity
    size: float  # of the normal size, 0 to 1
    spread: float  # of the model's half-spread, at least 1
    bids_allowed: bool
    asks_allowed: bool
    causes: tuple[str, ...]


NOT_READY: Final = Permission(Severity.PAUSED, 0.0, 1.0, False, False, ("not_ready",))
ALL_CLEAR: Final = Permission(Severity.ACTIVE, 1.0, 1.0, True, True, ())


def bids_back(facts: Facts, now: int) -> bool:
    """Bids are well above the level that pulled them."""
    return facts.inputs.liquidity.bid_ratio > CALM_RATIO


def asks_back(facts: Facts, now: int) -> bool:
    """Asks are well above the level that pulled them."""
    return facts.inputs.liquidity.ask_ratio > CALM_RATIO


def market_calm(facts: Facts, now: int) -> bool:
    """The re-entry gate of MODEL 8.4, as far as one venue shows it."""
    inputs = facts.inputs
    liquidity = inputs.liquidity
    return (
        liquidity.bid_ratio > CALM_RATIO
        and liquidity.ask_ratio > CALM_RATIO
        and inputs.spread_bps < liquidity.spread_calm_bps
        and inputs.sigma_ratio < CALM_SIGMA_X
        and inputs.trusted
        and triggers.stale(facts, now) is None
    )


class Rule(NamedTuple):
    """A cause: its trigger, and when it lets go.

    It lets go once the trigger is quiet and the `gate`, if any, is open for `hold_s` at a
    stretch, not before `pause_s` after the trip; a pause doubles up to `pause_s_max`. More
    than `trips_per_day_max` trips halt. `staged` is the re-entry of MODEL 8.4.
    `of_connection`: it speaks of a connection and not of the market or of us.
    """

    trigger: Callable[[Facts, int], Verdict | None]
    gate: Callable[[Facts, int], bool] | None = None
    hold_s: float = 0.0
    pause_s: float = 0.0
    pause_s_max: float = 0.0
    spread: float = 1.0
    trips_per_day_max: int | None = None
    staged: bool = False
    of_connection: bool = False


def rules(risk: RiskParams) -> tuple[Rule, ...]:
    """The table of causes. What only an operator clears needs no way back."""
    pauses, freeze_s, calm_s = risk.loss_pauses_per_day_max, risk.fill_speed_freeze_s, 10.0
    return (
        Rule(triggers.loss_1m, hold_s=30.0, spread=WIDE_FACTOR),
        Rule(triggers.loss_5m, pause_s=risk.loss_pause_s, trips_per_day_max=pauses),
        Rule(triggers.loss_1h),
        Rule(triggers.loss_day),
        Rule(triggers.inventory),
        Rule(triggers.fill_speed, pause_s=freeze_s, pause_s_max=max(freeze_s, 300.0)),
        Rule(triggers.depth_bid, bids_back, hold_s=calm_s, spread=WIDE_FACTOR),
        Rule(triggers.depth_ask, asks_back, hold_s=calm_s, spread=WIDE_FACTOR),
        Rule(triggers.depth, market_calm, hold_s=risk.reentry_hold_s, staged=True),
        Rule(triggers.spread, market_calm, hold_s=risk.reentry_hold_s, staged=True),
        Rule(triggers.book_untrusted, hold_s=2.0, of_connection=True),
        Rule(triggers.stale, hold_s=3.0, of_connection=True),
        Rule(triggers.gamma_withdraw, hold_s=10.0),
        Rule(triggers.execution, hold_s=1.0, of_connection=True),
        Rule(triggers.unknown_order, hold_s=1.0),
        Rule(triggers.reject_storm, pause_s=REJECT_PAUSE_S, pause_s_max=REJECT_PAUSE_S_MAX),
        Rule(triggers.post_only_row, pause_s=POST_ONLY_PAUSE_S),
        Rule(triggers.latched),
    )


class Breaker:
    """One row of the table at work: the verdict that holds, until its cooldown is over."""

    __slots__ = ("cooldown", "rule", "today", "trigger", "verdict")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.trigger = rule.trigger
        self.verdict: Verdict | None = None
        self.today = DailyCount()
        self.cooldown = Cooldown(
            round(rule.hold_s * NS_PER_S),
            round(rule.pause_s * NS_PER_S),
            round(rule.pause_s_max * NS_PER_S),
        )

    @property
    def severity(self) -> Severity:
        """The severity that this cause asks for."""
        return Severity.ACTIVE if self.verdict is None else self.verdict.severity

    def lets_go(self, facts: Facts, now: int, found: Verdict | None) -> bool:
        """Whether the verdict that holds may sink to `found`, which is no higher."""
        if self.severity >= Severity.HALTED:
            return False
        quiet = found is None or found.severity < self.severity
        gate = self.rule.gate
        return self.cooldown.over(now, quiet and (gate is None or gate(facts, now)))

    def __repr__(self) -> str:
        return f"Breaker({self.rule.trigger.__name__}, {self.verdict}, {self.cooldown})"


class Breakers:
    """All breakers, joined.

    `permission` is what quoting may do since the last `decide`, `reported` the trips and re-arms
    which that call found: a Trip when a cause reaches PAUSED or more (every quote is
    cancelled then, so WIDEN and ONE_SIDED are no trips), a Rearm when the last such cause
    lets go. The first start is neither, and at full size.
    """

    __slots__ = (
        "_breakers",
        "_cleared",
        "_connection_rearms",
        "_facts",
        "_last",
        "_latch",
        "_market_paused",
        "_paused",
        "_ramp",
        "_rearms",
        "_rearms_by_itself",
        "_staged",
        "_staged_step_ns",
        "_staged_trip_at",
        "permission",
        "reported",
    )

    def __init__(self, params: RiskParams, withdraw_multiplier: float) -> None:
        self._facts = Facts(params, withdraw_multiplier)
        self._breakers = [Breaker(rule) for rule in rules(params)]
        self._latch = self._breakers[-1]
        self._ramp = Ramp()
        self._rearms = DailyCount()
        self._connection_rearms = DailyCount()
        self._market_paused = False  # by more than a connection, since it last quoted
        self._staged_step_ns = round(params.reentry_stage_s * NS_PER_S)
        self._staged = False  # the way back to full size is the staged one
        self._staged_trip_at: int | None = None
        self._paused = False  # by a trip, not by a missing first book
        self._rearms_by_itself = True  # no operator has a hand in the next re-arm
        self._cleared = ""  # the cause that let go last
        self._last = 0
        self.permission = NOT_READY
        self.reported: list[Trip | Rearm] = []

    def filled(self, now: int, signed_lots: int) -> None:
        """Learn an own fill, positive for a buy. The position itself comes with the inputs."""
        self._facts.fills_1s.learn(now, signed_lots)
        self._facts.fills_5s.learn(now, signed_lots)

    def refused(self, now: int, *, post_only: bool) -> None:
        """Learn that the venue refused a placement or an amend, and whether it would have taken."""
        self._facts.refusals.learn(now, post_only)

    def accepted(self) -> None:
        """Learn that the venue accepted a placement or an amend."""
        self._facts.refusals.accepted()

    def latch(self, verdict: Verdict) -> None:
        """Stop for a cause found elsewhere: an operator's kill, a halt of an earlier run.

        The severity is HALTED or LOCKED; it counts from the next `decide`.
        """
        assert verdict.severity >= Severity.HALTED, verdict
        held = self._facts.latched
        if held is None or verdict.severity > held.severity:
            self._facts.latched = verdict

    def operator_rearm(self, now: int, reason: str) -> None:
        """Clear what HALTED, not what LOCKED; from the next `decide`, if nothing else holds.

        The windows of 1 min to 1 h start anew, the day's does not (a lost day ends with
        the day). Raises ValueError on a reason without a letter.
        """
        if not reason.strip():
            raise ValueError("a re-arm needs a typed reason")
        facts = self._facts
        halted = [breaker for breaker in self._breakers if breaker.severity is Severity.HALTED]
        if facts.latched is not None and facts.latched.severity is Severity.HALTED:
            facts.latched = None
        elif not halted:
            return
        for breaker in halted:
            breaker.verdict = None
        self._cleared = f"operator:{reason}"
        self._rearms_by_itself = False
        facts.loss.restart()
        self._rearms.clear()
        self._connection_rearms.clear()
        self._staged_trip_at = None

    def tighten(self, params: RiskParams) -> None:
        """Judge by these limits from now on. Rules keep their timings: only limits may differ."""
        self._facts.risk = params

    def decide(self, now: int, inputs: Inputs) -> Permission:
        """Judge every cause at `now`, which never goes back."""
        assert now >= self._last, f"time went back: {now} < {self._last}"
        self._last = now
        facts = self._facts
        facts.learn(now, inputs)
        self.reported = []
        busy = False
        for breaker in self._breakers:
            found = breaker.trigger(facts, now)
            if found is not None or breaker.verdict is not None:
                self._judge(breaker, now, found)
                busy = True
        held = self._held() if busy else []
        if any(verdict.severity >= Severity.PAUSED for verdict, _ in held):
            self._paused = True
        elif self._paused and facts.ready:
            self._return_to_quoting(now)
            held = self._held()
        blocked = self._paused or not facts.ready
        self.permission = self._forbid(held) if blocked else self._permit(now, held)
        return self.permission

    def _held(self) -> list[tuple[Verdict, float]]:
        return [(b.verdict, b.rule.spread) for b in self._breakers if b.verdict is not None]

    def _judge(self, breaker: Breaker, now: int, found: Verdict | None) -> None:
        severity = breaker.severity
        if found is not None and found.severity > severity:
            self._enter(breaker, now, found)
        elif breaker.lets_go(self._facts, now, found):
            if severity >= Severity.PAUSED and breaker.verdict is not None:
                self._cleared = breaker.verdict.cause
            breaker.verdict = found
        elif found is not None and found.severity is severity:
            breaker.verdict = found  # the position may have changed its sign

    def _enter(self, breaker: Breaker, now: int, found: Verdict) -> None:
        rule = breaker.rule
        halts = False
        if rule.trips_per_day_max is not None:
            halts = breaker.today.add(now) > rule.trips_per_day_max
        if rule.staged:
            halts = halts or self._trips_again_too_soon(now)
            self._staged = True
            self._staged_trip_at = now
        if halts:
            found = msgspec.structs.replace(found, severity=Severity.HALTED)
        breaker.verdict = found
        breaker.cooldown.trip(now)
        if found.severity >= Severity.PAUSED:
            self._market_paused = self._market_paused or not rule.of_connection
            self.reported.append(Trip(found.severity.name, found.cause, found.evidence))

    def _trips_again_too_soon(self, now: int) -> bool:
        """MODEL 8.4: one more staged trip after quoting came back, too soon after the last."""
        if self._staged_trip_at is None:
            return False
        if any(b.rule.staged and b.verdict is not None for b in self._breakers):
            return False  # the same event: a spread blows out when depth leaves
        return self._staged or now - self._staged_trip_at <= SECOND_TRIP_NS

    def _return_to_quoting(self, now: int) -> None:
        """The last cause of a pause has let go."""
        by_itself, self._rearms_by_itself = self._rearms_by_itself, True
        # A connection that is cut a few times a night is no sign of danger; cut all day, it is.
        market, self._market_paused = self._market_paused, False
        today, limit = (
            (self._rearms, REARMS_PER_DAY_MAX)
            if market
            else (self._connection_rearms, CONNECTION_REARMS_PER_DAY_MAX)
        )
        if by_itself and today.add(now) > limit:
            evidence = {"rearms_per_day_max": float(limit)}
            self._facts.latched = Verdict(Severity.HALTED, "rearms_per_day", evidence)
            self._enter(self._latch, now, self._facts.latched)
            return
        self._paused = False
        if self._staged:
            self._ramp.start(now, STAGED, self._staged_step_ns)
        else:
            self._ramp.start(now, PLAIN, PLAIN_STEP_NS)
        self.reported.append(Rearm(self._cleared, self._ramp.step(now).size))

    def _permit(self, now: int, held: list[tuple[Verdict, float]]) -> Permission:
        step = self._ramp.step(now)
        if step is FULL:
            self._staged = False
        severity = Severity.ACTIVE if step is FULL else Severity.WIDEN
        spread, bids, asks = step.spread, True, True
        causes: tuple[str, ...] = () if step is FULL else ("ramp",)
        for verdict, factor in held:
            severity = max(severity, verdict.severity)
            spread = max(spread, factor)
            bids = bids and verdict.side is not Side.BUY
            asks = asks and verdict.side is not Side.SELL
            causes = (*causes, verdict.cause)
        if severity is Severity.ACTIVE:
            return ALL_CLEAR
        return Permission(severity, step.size, spread, bids, asks, causes)

    def _forbid(self, held: list[tuple[Verdict, float]]) -> Permission:
        severity = max((verdict.severity for verdict, _ in held), default=Severity.PAUSED)
        causes = tuple(verdict.cause for verdict, _ in held)
        if not self._facts.ready:
            causes = (*causes, "not_ready")
        return Permission(max(severity, Severity.PAUSED), 0.0, 1.0, False, False, causes)

    def __repr__(self) -> str:
        held = [breaker for breaker in self._breakers if breaker.verdict is not None]
        return (
            f"Breakers({self.permission}, held={held}, {self._ramp}, rearms={self._rearms}, "
            f"staged={self._staged}, staged_trip_at={self._staged_trip_at})"
        )
