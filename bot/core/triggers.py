"""What speaks against quoting: one small pure trigger a cause, and the facts that it judges.

RISK 2 lists them by the names of their causes. A trigger says what is true now; how long it
counts is the business of `breakers`.
"""

from collections import deque
from enum import IntEnum
from typing import Final

import msgspec

from bot.core.signals.liquidity import Liquidity
from bot.domain.params import RiskParams
from bot.domain.units import DAY_NS, NS_PER_MS, NS_PER_S, Side

ONE_SIDE_HOLD_NS: Final = 500 * NS_PER_MS  # one thin side is pulled after this
LOSS_SLOTS: Final = 3_601  # one hour at 1 s and the second that is under way
FILL_SLOT_NS: Final = 10 * NS_PER_MS
UNKNOWN_PAUSE_NS: Final = 10 * NS_PER_S
UNKNOWN_HALT_NS: Final = 60 * NS_PER_S
REJECTS_MAX: Final = 5  # placements and amends that the venue refused ...
REJECTS_WINDOW_NS: Final = 10 * NS_PER_S  # ... within this
POST_ONLY_ROW_MAX: Final = 10  # refusals as "would take" without an acceptance between them
POST_ONLY_QUIET_NS: Final = 5 * NS_PER_S  # without another one: a full row starts anew
MISMATCH_FRACTION: Final = 0.05  # of the largest position: so much is no lost fill


class Severity(IntEnum):
    """How much the bot may do (RISK 1), from everything to nothing without a new config."""

    ACTIVE = 0
    WIDEN = 1
    ONE_SIDED = 2
    REDUCE_ONLY = 3
    PAUSED = 4
    HALTED = 5
    LOCKED = 6


class Verdict(msgspec.Struct, frozen=True):
    """What a trigger found. `side` is the side it pulls, for ONE_SIDED and REDUCE_ONLY."""

    severity: Severity
    cause: str
    evidence: dict[str, float]
    side: Side | None = None


class Inputs(msgspec.Struct, frozen=True, gc=False):
    """What the breakers read, as of one `decide`.

    `equity` is marked to market in quote currency; a silence is the time since the last
    message of the depth stream and of any stream; `age_ns` is feed lag above its lower
    envelope; `sigma_ratio` is sigma_fast / sigma_slow; `obstacles` are the names of those that
    stand, oldest first; `unknown_ns` is how long the oldest UNKNOWN order has been so.
    """

    trusted: bool
    distrust: str
    equity: float
    position_lots: int
    liquidity: Liquidity
    depth_silence_ns: int
    silence_ns: int
    age_ns: int
    gamma_multiplier: float
    spread_bps: float
    sigma_ratio: float
    obstacles: tuple[str, ...] = ()
    unknown_ns: int = 0


class LossWindows:
    """Change of equity over 1 min, 5 min, 1 h and the UTC day, at 1 s resolution.

    A window reaches back to the first reading of its second, or to the first of all.
    """

    __slots__ = (
        "_day",
        "_equity",
        "_first",
        "_five_ago",
        "_hour_ago",
        "_midnight",
        "_minute_ago",
        "_ring",
        "_second",
    )

    def __init__(self) -> None:
        self._ring = [0.0] * LOSS_SLOTS
        self._second = self._first = self._day = -1
        self._equity = self._midnight = 0.0
        self._minute_ago = self._five_ago = self._hour_ago = 0.0

    def learn(self, now: int, equity: float) -> None:
        """Take the equity at `now`, quote currency."""
        assert equity == equity, "equity is not a number"
        second = now // NS_PER_S
        if second != self._second:
            self._turn(second, equity)
        self._equity = equity

    def restart(self) -> None:
        """Forget the last hour, not the day."""
        self._first = self._second
        self._ring[self._second % LOSS_SLOTS] = self._equity
        self._minute_ago = self._five_ago = self._hour_ago = self._equity

    @property
    def minute(self) -> float:
        """Change over one minute, quote currency; a loss is negative."""
        return self._equity - self._minute_ago

    @property
    def five_minutes(self) -> float:
        """Change over five minutes."""
        return self._equity - self._five_ago

    @property
    def hour(self) -> float:
        """Change over one hour."""
        return self._equity - self._hour_ago

    @property
    def day(self) -> float:
        """Change since 00:00 UTC, or since the first reading if that is later."""
        return self._equity - self._midnight

    def _turn(self, second: int, equity: float) -> None:
        if self._first < 0:
            self._first, self._second, self._equity = second, second - 1, equity
        # Seconds without a reading keep the equity before them.
        for missed in range(max(self._second + 1, second - LOSS_SLOTS), second):
            self._ring[missed % LOSS_SLOTS] = self._equity
        self._ring[second % LOSS_SLOTS] = equity
        self._second = second
        self._minute_ago = self._ago(60)
        self._five_ago = self._ago(300)
        self._hour_ago = self._ago(3_600)
        day = second * NS_PER_S // DAY_NS
        if day != self._day:
            self._day, self._midnight = day, self._equity

    def _ago(self, seconds: int) -> float:
        return self._ring[max(self._second - seconds, self._first) % LOSS_SLOTS]

    def __repr__(self) -> str:
        return (
            f"LossWindows(minute={self.minute:.6g}, five_minutes={self.five_minutes:.6g}, "
            f"hour={self.hour:.6g}, day={self.day:.6g})"
        )


class NetFills:
    """Signed lots filled within a window, in slots of 10 ms so that memory is bounded."""

    __slots__ = ("_slots", "_window_ns", "lots")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._slots: deque[tuple[int, int]] = deque()
        self.lots = 0

    def learn(self, now: int, signed_lots: int) -> None:
        """Add one fill, positive for a buy."""
        slot = now // FILL_SLOT_NS
        if self._slots and self._slots[-1][0] == slot:
            signed_in_slot = self._slots.pop()[1] + signed_lots
        else:
            signed_in_slot = signed_lots
        self._slots.append((slot, signed_in_slot))
        self.lots += signed_lots

    def forget(self, now: int) -> None:
        """Drop what is older than the window."""
        oldest = (now - self._window_ns) // FILL_SLOT_NS
        while self._slots and self._slots[0][0] < oldest:
            self.lots -= self._slots.popleft()[1]

    def __repr__(self) -> str:
        return f"NetFills(lots={self.lots}, slots={len(self._slots)})"


class Refusals:
    """What the venue refused of late: storms of one kind and rows of the other.

    "Would take" is what a fast market answers to a post-only order and is counted apart.
    """

    __slots__ = ("_times", "post_only_at", "post_only_row")

    def __init__(self) -> None:
        self._times: deque[int] = deque(maxlen=REJECTS_MAX)
        self.post_only_row = 0
        self.post_only_at = 0

    def learn(self, now: int, post_only: bool) -> None:
        """A placement or an amend was refused."""
        if post_only:
            self.post_only_row += 1
            self.post_only_at = now
        else:
            self._times.append(now)

    def accepted(self) -> None:
        """A placement or an amend was accepted: a row of refusals ends, a storm does not."""
        self.post_only_row = 0

    def forget(self, now: int) -> None:
        """A row that was long enough and has been quiet since starts anew."""
        full = self.post_only_row >= POST_ONLY_ROW_MAX
        if full and now - self.post_only_at >= POST_ONLY_QUIET_NS:
            self.post_only_row = 0

    def storm(self, now: int) -> bool:
        """As many as count as a storm, within its window."""
        times = self._times
        return len(times) == REJECTS_MAX and now - times[0] <= REJECTS_WINDOW_NS

    def __repr__(self) -> str:
        return f"Refusals({list(self._times)}, post_only_row={self.post_only_row})"


class Facts:
    """What the triggers judge: the inputs and the little memory that some of them need."""

    __slots__ = (
        "_full_pause_ns",
        "fills_1s",
        "fills_5s",
        "full_since",
        "inputs",
        "inventory",
        "latched",
        "loss",
        "one_sided",
        "ready",
        "refusals",
        "risk",
        "withdraw_multiplier",
    )

    inputs: Inputs

    def __init__(self, params: RiskParams, withdraw_multiplier: float) -> None:
        assert params.loss_budget > 0.0, "no loss budget"
        assert params.max_position_lots > 0, "no position limit"
        self.risk = params
        self.withdraw_multiplier = withdraw_multiplier
        self.ready = False  # the book was trusted once, with no obstacle in the way
        self.refusals = Refusals()
        self.loss = LossWindows()
        self.fills_1s = NetFills(1 * NS_PER_S)
        self.fills_5s = NetFills(5 * NS_PER_S)
        self.inventory = 0.0  # |position| as a fraction of its limit
        self.one_sided = False  # between the one-sided and the re-arm fraction, from above
        # When the limit was reached, until the pause is over and the re-arm fraction reached.
        self.full_since: int | None = None
        self._full_pause_ns = round(params.inventory_pause_s * NS_PER_S)
        self.latched: Verdict | None = None

    def learn(self, now: int, inputs: Inputs) -> None:
        """Take the inputs of one `decide`."""
        risk = self.risk
        self.inputs = inputs
        self.ready = self.ready or (inputs.trusted and not inputs.obstacles)
        self.refusals.forget(now)
        self.loss.learn(now, inputs.equity)
        self.fills_1s.forget(now)
        self.fills_5s.forget(now)
        self.inventory = inventory = abs(inputs.position_lots) / risk.max_position_lots
        if inventory >= risk.inventory_one_sided:
            self.one_sided = True
        elif inventory < risk.inventory_rearm:
            self.one_sided = False
        if self.full_since is None:
            self.full_since = now if inventory >= 1.0 else None
        elif inventory <= risk.inventory_rearm and not self.full_pause(now):
            self.full_since = None

    def full_pause(self, now: int) -> bool:
        """Whether the limit was reached less than a pause ago."""
        return self.full_since is not None and now - self.full_since < self._full_pause_ns

    def __repr__(self) -> str:
        return (
            f"Facts(ready={self.ready}, inventory={self.inventory:.3f}, "
            f"full_since={self.full_since}, latched={self.latched}, {self.loss}, "
            f"1s={self.fills_1s}, 5s={self.fills_5s})"
        )


def loss_1m(facts: Facts, now: int) -> Verdict | None:
    """A tenth of the day's budget within a minute."""
    fraction = facts.risk.loss_1m_fraction
    return _loss(facts, "loss_1m", facts.loss.minute, fraction, Severity.WIDEN)


def loss_5m(facts: Facts, now: int) -> Verdict | None:
    """A quarter of the day's budget within five minutes."""
    fraction = facts.risk.loss_5m_fraction
    return _loss(facts, "loss_5m", facts.loss.five_minutes, fraction, Severity.PAUSED)


def loss_1h(facts: Facts, now: int) -> Verdict | None:
    """Half of the day's budget within an hour."""
    fraction = facts.risk.loss_1h_fraction
    return _loss(facts, "loss_1h", facts.loss.hour, fraction, Severity.HALTED)


def loss_day(facts: Facts, now: int) -> Verdict | None:
    """The day's budget. It stays true until the next UTC day, whoever re-arms."""
    fraction = facts.risk.loss_day_fraction
    return _loss(facts, "loss_day", facts.loss.day, fraction, Severity.HALTED)


def _loss(
    facts: Facts, cause: str, change: float, fraction: float, severity: Severity
) -> Verdict | None:
    limit = -fraction * facts.risk.loss_budget
    if change > limit:
        return None
    return Verdict(severity, cause, {"change": change, "limit": limit})


def inventory(facts: Facts, now: int) -> Verdict | None:
    """The increasing side off, then everything off for a moment, then reduce only."""
    if not facts.one_sided and facts.full_since is None:
        return None
    risk, lots = facts.risk, facts.inputs.position_lots
    evidence = {"position_lots": float(lots), "fraction": facts.inventory}
    increasing = Side.BUY if lots > 0 else Side.SELL
    if facts.inventory > risk.inventory_halt:
        return Verdict(Severity.HALTED, "inventory", evidence)
    if facts.full_since is None:
        return Verdict(Severity.ONE_SIDED, "inventory", evidence, increasing)
    if facts.full_pause(now):
        return Verdict(Severity.PAUSED, "inventory", evidence)
    return Verdict(Severity.REDUCE_ONLY, "inventory", evidence, increasing)


def fill_speed(facts: Facts, now: int) -> Verdict | None:
    """Too much of the limit filled in one direction within 1 s or 5 s."""
    lots_1s, lots_5s = facts.fills_1s.lots, facts.fills_5s.lots
    if lots_1s == 0 and lots_5s == 0:
        return None
    risk, limit = facts.risk, facts.risk.max_position_lots
    most_1s, most_5s = risk.fill_speed_fraction_1s * limit, risk.fill_speed_fraction_5s * limit
    if abs(lots_1s) < most_1s and abs(lots_5s) < most_5s:
        return None
    evidence = {
        "lots_1s": float(lots_1s),
        "most_1s": most_1s,
        "lots_5s": float(lots_5s),
        "most_5s": most_5s,
    }
    return Verdict(Severity.PAUSED, "fill_speed", evidence)


def depth_bid(facts: Facts, now: int) -> Verdict | None:
    """Thin bids pull our bids; it happens in calm markets, so it never pauses."""
    liquidity = facts.inputs.liquidity
    if not liquidity.low_bid.lasts(ONE_SIDE_HOLD_NS):
        return None
    return Verdict(Severity.ONE_SIDED, "depth_bid", {"ratio": liquidity.bid_ratio}, Side.BUY)


def depth_ask(facts: Facts, now: int) -> Verdict | None:
    """Thin asks pull our asks."""
    liquidity = facts.inputs.liquidity
    if not liquidity.low_ask.lasts(ONE_SIDE_HOLD_NS):
        return None
    return Verdict(Severity.ONE_SIDED, "depth_ask", {"ratio": liquidity.ask_ratio}, Side.SELL)


def depth(facts: Facts, now: int) -> Verdict | None:
    """Both sides thin, one nearly gone, or both falling off a cliff."""
    risk, liquidity = facts.risk, facts.inputs.liquidity
    bid, ask = liquidity.bid_ratio, liquidity.ask_ratio
    both = bid < risk.depth_both and ask < risk.depth_both
    gone = bid < risk.depth_one or ask < risk.depth_one
    cliff = liquidity.drop > risk.depth_drop_5s
    if not both and not gone and not cliff:
        return None
    evidence = {"bid_ratio": bid, "ask_ratio": ask, "drop_5s": liquidity.drop}
    return Verdict(Severity.PAUSED, "depth", evidence)


def spread(facts: Facts, now: int) -> Verdict | None:
    """Far above its median, and for a while (a one-tick book passes six ticks briefly)."""
    liquidity = facts.inputs.liquidity
    if not liquidity.wide.lasts(round(facts.risk.spread_hold_s * NS_PER_S)):
        return None
    evidence = {
        "spread_bps": facts.inputs.spread_bps,
        "limit_bps": liquidity.spread_limit_bps,
        "median_bps": liquidity.spread_median_bps,
    }
    return Verdict(Severity.PAUSED, "spread", evidence)


def book_untrusted(facts: Facts, now: int) -> Verdict | None:
    """No quotes on a book that may be wrong. Before the first trust there is none."""
    if facts.inputs.trusted or not facts.ready:
        return None
    return Verdict(Severity.PAUSED, f"book_untrusted:{facts.inputs.distrust}", {})


def stale(facts: Facts, now: int) -> Verdict | None:
    """Silence or age: a feed can die or grow old (RISK 2)."""
    risk, inputs = facts.risk, facts.inputs
    limit = risk.silence_ms * NS_PER_MS
    silent = inputs.silence_ns > risk.silence_all_ms * NS_PER_MS
    others_move = inputs.silence_ns <= limit
    lonely = others_move and inputs.depth_silence_ns > limit
    aged = inputs.age_ns > risk.age_ms * NS_PER_MS
    if not (silent or lonely or aged) or not facts.ready:
        return None
    evidence = {
        "depth_silence_ms": inputs.depth_silence_ns / NS_PER_MS,
        "silence_ms": inputs.silence_ns / NS_PER_MS,
        "age_ms": inputs.age_ns / NS_PER_MS,
    }
    return Verdict(Severity.PAUSED, "stale:silence" if silent or lonely else "stale:age", evidence)


def execution(facts: Facts, now: int) -> Verdict | None:
    """Orders cannot be relied on. Before the first quote there is nothing to stop."""
    obstacles = facts.inputs.obstacles
    if not obstacles or not facts.ready:
        return None
    return Verdict(
        Severity.PAUSED, f"execution:{obstacles[0]}", {"obstacles": float(len(obstacles))}
    )


def unknown_order(facts: Facts, now: int) -> Verdict | None:
    """Nobody has said for too long what became of an order."""
    age = facts.inputs.unknown_ns
    if age <= UNKNOWN_PAUSE_NS:
        return None
    severity = Severity.HALTED if age > UNKNOWN_HALT_NS else Severity.PAUSED
    return Verdict(severity, "unknown_order", {"age_s": age / NS_PER_S})


def reject_storm(facts: Facts, now: int) -> Verdict | None:
    """The venue refuses one order after another: something is wrong with all of them."""
    if not facts.refusals.storm(now):
        return None
    evidence = {"rejects": float(REJECTS_MAX), "window_s": REJECTS_WINDOW_NS / NS_PER_S}
    return Verdict(Severity.PAUSED, "reject_storm", evidence)


def post_only_row(facts: Facts, now: int) -> Verdict | None:
    """The market runs through every quote before it rests."""
    row = facts.refusals.post_only_row
    if row < POST_ONLY_ROW_MAX:
        return None
    return Verdict(Severity.PAUSED, "post_only_row", {"rejects": float(row)})


def gamma_withdraw(facts: Facts, now: int) -> Verdict | None:
    """At such a risk aversion an order is cancelled instead of parked far away (MODEL 5.3)."""
    multiplier = facts.inputs.gamma_multiplier
    if multiplier < facts.withdraw_multiplier:
        return None
    return Verdict(Severity.PAUSED, "gamma_withdraw", {"multiplier": multiplier})


def fill_beyond_limit(side: Side, limit_tick: int, tick: int) -> Verdict | None:
    """A fill worse than our limit: the venue or our table is wrong. To be latched."""
    if side * (tick - limit_tick) <= 0:
        return None
    evidence = {"limit_tick": float(limit_tick), "fill_tick": float(tick)}
    return Verdict(Severity.HALTED, "fill_beyond_limit", evidence)


def position_mismatch(believed_lots: int, venue_lots: int, limit_lots: int) -> Verdict | None:
    """The venue holds another position than we believed, by too much. To be latched."""
    if abs(venue_lots - believed_lots) <= MISMATCH_FRACTION * limit_lots:
        return None
    evidence = {"believed_lots": float(believed_lots), "venue_lots": float(venue_lots)}
    return Verdict(Severity.HALTED, "position_mismatch", evidence)


def latched(facts: Facts, now: int) -> Verdict | None:
    """What was decided elsewhere: an operator, an earlier run, too many re-arms."""
    return facts.latched
