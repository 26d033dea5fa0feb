"""What a venue's lists prove about our orders and our position, and what they do not. Pure.

A list is a photograph of some moment before it arrived, perhaps of an earlier one than the list
before it, and an empty list may be a mistake. So nothing is concluded from one reading, nor
while something of our own is still under way; and a missing order is not gone, it is one to ask
about. Times are ns; `asked_at` is when the request for the list was made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from enum import Enum
from typing import Final, Protocol

from bot.core.orderlife import Order, OrderState
from bot.domain.units import NS_PER_S

QUIET_NS: Final = 2 * NS_PER_S  # how far a venue's lists may lag behind its matching
POSITION_GAP_NS: Final = 3 * NS_PER_S  # between the two readings that prove a mismatch
FRESH_FILL_NS: Final = 60 * NS_PER_S  # an empty account so soon after a fill is a mistake
OVERDUE_NS: Final = 5 * NS_PER_S  # without any answer to a request
REPEATS_MAX: Final = 3  # readings off by the same lots, whatever else is under way

# Nothing has been asked of such an order that the venue has not answered.
AT_REST: Final = (OrderState.LIVE, OrderState.PARTIALLY_FILLED)

TouchedAt = Callable[[str], int]


class Listed(Protocol):
    """An order as a venue lists it."""

    @property
    def order_id(self) -> str: ...
    @property
    def tick(self) -> int: ...
    @property
    def lots(self) -> int: ...
    @property
    def cumulative_lots(self) -> int: ...


class Finding(Enum):
    """What is wrong with one order, at first sight."""

    MISSING = "missing"  # it rests here, but not there
    STRAY = "stray"  # it rests there, but not here
    DIFFERENT = "different"  # another price, quantity or filled quantity


@dataclass(frozen=True, slots=True)
class OrdersVerdict:
    """What is to be done after one reading of the open orders.

    `doubts` are to be asked about one by one, `strays` to be cancelled, `foreign` are those
    of somebody else, which are left alone. `contradicts`: a list without a single order
    although some rest, which does not count as a reading.
    """

    doubts: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    contradicts: bool = False


@dataclass(slots=True)
class OrdersWatch:
    """Compares our orders with the venue's list; a finding counts when it is made twice."""

    is_own: Callable[[str], bool]
    suspects: Mapping[str, Finding] = field(default_factory=dict)

    def judge(
        self,
        believed: Sequence[Order],
        listed: Sequence[Listed],
        touched_at: TouchedAt,
        asked_at: int,
    ) -> OrdersVerdict:
        """Judge one reading.

        `believed` are all working orders at the time of the answer. Left out of every finding
        are orders that are being asked about or changed anyway, and those of which anything was
        sent or heard less than QUIET_NS before the reading was asked for, or since.
        """
        findings = {
            order_id: finding
            for order_id, finding in compare(believed, listed, self.is_own).items()
            if touched_at(order_id) <= asked_at - QUIET_NS
        }
        proven = {
            order_id: finding
            for order_id, finding in findings.items()
            if self.suspects.get(order_id) is finding
        }
        self.suspects = findings
        strays = tuple(i for i, finding in proven.items() if finding is Finding.STRAY)
        return OrdersVerdict(
            doubts=tuple(i for i, finding in proven.items() if finding is not Finding.STRAY),
            strays=strays,
            foreign=foreign(listed, self.is_own),
            contradicts=not listed and any(o.state in AT_REST for o in believed),
        )

    def forget(self) -> None:
        """The next reading is a first one."""
        self.suspects = {}


def foreign(listed: Sequence[Listed], is_own: Callable[[str], bool]) -> tuple[str, ...]:
    """Orders of somebody else."""
    return tuple(one.order_id for one in listed if not is_own(one.order_id))


def compare(
    believed: Sequence[Order], listed: Sequence[Listed], is_own: Callable[[str], bool]
) -> dict[str, Finding]:
    """Every difference between what we believe and one list, taken at its word."""
    there = {one.order_id: one for one in listed}
    here = {order.order_id: order for order in believed}
    found: dict[str, Finding] = {}
    for order in believed:
        if order.state not in AT_REST:
            continue  # asked about, or about to be answered
        one = there.get(order.order_id)
        if one is None:
            found[order.order_id] = Finding.MISSING
        elif (one.tick, one.lots, one.cumulative_lots) != (
            order.tick,
            order.lots,
            order.filled_lots,
        ):
            found[order.order_id] = Finding.DIFFERENT
    for one in listed:
        if is_own(one.order_id) and one.order_id not in here:
            found[one.order_id] = Finding.STRAY
    return found


def overdue(believed: Sequence[Order], touched_at: TouchedAt, now: int) -> list[str]:
    """Orders with a request that has had no answer for OVERDUE_NS."""
    return [
        order.order_id
        for order in believed
        if order.state not in (*AT_REST, OrderState.UNKNOWN)
        and max(order.sent_at, touched_at(order.order_id)) + OVERDUE_NS < now
    ]


class Standing(Enum):
    """What one reading of the position says."""

    EQUAL = "equal"
    UNDECIDED = "undecided"  # different, but too soon, too early or for the first time
    CONTRADICTS = "contradicts"  # nothing at all, though something was just traded: no reading
    SUSPECT = "suspect"  # off by the same lots time and again, but it never becomes quiet
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class PositionRead:
    """One reading of the position: the venue's less ours is `off` lots.

    `empty`: the venue says that there is nothing at all. `settled`: when it was asked and when
    it answered nothing was in flight, unknown or owed, and we believed the same.
    """

    asked_at: int
    off: int
    empty: bool = False
    settled: bool = True


@dataclass(slots=True)
class PositionWatch:
    """Compares our position with the venue's; one difference proves nothing."""

    before: PositionRead | None = None  # the first quiet reading of this difference
    off: int = 0
    repeats: int = 0

    def judge(self, read: PositionRead, active_at: int, filled_at: int) -> Standing:
        """Judge one reading; `active_at` and `filled_at` are of our latest activity and fill.

        A mismatch is the same difference twice, POSITION_GAP_NS apart, with nothing of ours from
        QUIET_NS before the first until the second. Who trades all the time is never so quiet:
        the same difference for REPEATS_MAX readings is reason enough to become it.
        """
        if read.off == 0:
            self.forget()
            return Standing.EQUAL
        if read.empty and filled_at > read.asked_at - FRESH_FILL_NS:
            return Standing.CONTRADICTS
        self.repeats = self.repeats + 1 if read.off == self.off else 1
        self.off = read.off
        quiet = read.settled and active_at <= read.asked_at - QUIET_NS
        if not quiet:
            self.before = None
            return Standing.SUSPECT if self.repeats >= REPEATS_MAX else Standing.UNDECIDED
        first = self.before
        if first is None or first.off != read.off or active_at > first.asked_at - QUIET_NS:
            self.before = read
            return Standing.UNDECIDED
        if read.asked_at - first.asked_at < POSITION_GAP_NS:
            return Standing.UNDECIDED
        return Standing.MISMATCH

    def forget(self) -> None:
        """The next reading is a first one."""
        self.before = None
        self.off = 0
        self.repeats = 0


def position_off(believed_lots: int, position: Decimal, lot: Decimal, exact: bool) -> int:
    """By how many lots a position in base currency differs from ours.

    A derivative's position is `exact`: any difference counts. A balance also holds what is no
    whole lot (dust, rounded fees): less than a lot of it is no difference.
    """
    difference = position / lot - believed_lots
    if not exact and abs(difference) < 1:
        return 0
    return int(difference.to_integral_value(ROUND_UP if exact else ROUND_HALF_EVEN))
