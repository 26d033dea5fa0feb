"""The message governor (RISK 8): what may be sent now, as functions of `now`.

A venue limits request weight and order counts in windows of several lengths. Nothing that is
admitted here passes any of them, wherever a venue lets its windows begin: ours slide. A part of
each is kept for cancels, so that no placement can make one wait. Times are ns.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from bot.domain.units import MINUTE_NS, NS_PER_S

SLOTS: Final = 100  # a window's; what was spent is forgotten a slot's length late at most

CANCEL, AMEND, PLACE, RECONCILE, DATA = range(5)  # priorities, the most urgent first
# Percent of every window that a priority may fill. What is left above 70 % is for cancels, and
# for questions about orders, which may take two thirds of it: from 90 % on there are only cancels.
SHARES: Final = (100, 70, 70, 90, 70)


class Runaway(RuntimeError):
    """More orders in a minute than this bot can mean to send: cancel all and stop."""


class Window:
    """At most `limit` units in any `window_ns`, counted in slots so that memory is bounded."""

    __slots__ = ("_slot_ns", "_slots", "limit", "used", "window_ns")

    def __init__(self, limit: int, window_ns: int) -> None:
        """Raises ValueError unless both are positive."""
        if limit < 1 or window_ns < 1:
            raise ValueError(f"a window needs a limit and a length, got {limit}, {window_ns}")
        self.limit = limit
        self.window_ns = window_ns
        self.used = 0
        self._slot_ns = max(1, window_ns // SLOTS)
        self._slots: deque[tuple[int, int]] = deque()  # (end of the slot, units), oldest first

    def spend(self, amount: int, now: int) -> None:
        """Count `amount` units at `now`, also beyond the limit."""
        self.forget(now)
        end = (now // self._slot_ns + 1) * self._slot_ns
        if self._slots and self._slots[-1][0] >= end:
            end, earlier = self._slots.pop()
            self._slots.append((end, earlier + amount))
        else:
            self._slots.append((end, amount))
        self.used += amount

    def forget(self, now: int) -> None:
        """Drop the slots that lie wholly before the window."""
        while self._slots and self._slots[0][0] + self.window_ns <= now:
            self.used -= self._slots.popleft()[1]

    def wait_ns(self, percent: int, amount: int, now: int) -> int:
        """Time until `amount` more units fit into `percent` of the limit.

        Raises ValueError when they never will.
        """
        room = self.limit * percent // 100 - amount
        if room < 0:
            raise ValueError(f"{amount} units never fit into {percent} % of {self.limit}")
        self.forget(now)
        left = self.used
        if left <= room:
            return 0
        for end, units in self._slots:
            left -= units
            if left <= room:
                return end + self.window_ns - now
        raise AssertionError(f"slots do not add up: {self}")

    def __repr__(self) -> str:
        return f"Window({self.used}/{self.limit} in {self.window_ns / NS_PER_S:g} s)"


class Budget:
    """All windows of one account and address.

    `wait_ns` asks, `spent` counts. What the kill sequence sends past `wait_ns` is counted too.
    """

    __slots__ = ("_ban_until", "_cap", "_orders", "_quiet_until", "_weights")

    def __init__(
        self,
        weights: Sequence[tuple[int, int]],
        orders: Sequence[tuple[int, int]],
        orders_a_minute_max: int,
    ) -> None:
        """`weights` and `orders` hold (limit, window in ns); `orders_a_minute_max` is our own cap.

        Raises ValueError for a window without a limit or a length.
        """
        self._weights = tuple(Window(limit, window_ns) for limit, window_ns in weights)
        self._orders = tuple(Window(limit, window_ns) for limit, window_ns in orders)
        self._cap = Window(orders_a_minute_max, MINUTE_NS)
        self._quiet_until = 0
        self._ban_until = 0

    def wait_ns(self, priority: int, weight: int, orders: int, now: int) -> int:
        """Time until a call of this price may go, 0 for now; it goes unless more comes between.

        Raises ValueError for a call that no amount of waiting lets go.
        """
        until = self._ban_until if priority == CANCEL else max(self._quiet_until, self._ban_until)
        percent = SHARES[priority]
        waits = [window.wait_ns(percent, weight, now) for window in self._weights]
        if orders:
            waits += [window.wait_ns(percent, orders, now) for window in self._orders]
        return max(0, until - now, *waits)

    def spent(self, weight: int, orders: int, now: int) -> None:
        """A call was sent. Raises Runaway, and counts it all the same."""
        for window in self._weights:
            window.spend(weight, now)
        if not orders:
            return
        for window in self._orders:
            window.spend(orders, now)
        self._cap.spend(orders, now)
        if self._cap.used > self._cap.limit:
            raise Runaway(f"{self._cap.used} orders within a minute, {self._cap.limit} at most")

    def told(self, used_weight: int, now: int) -> None:
        """The server counts so much weight in its minute: we are not alone on this address.

        It corrects upward only: its minute lies within ours, so that less says nothing.
        """
        self._correct(self._weights, used_weight, MINUTE_NS, now)

    def told_orders(self, used_orders: int, window_ns: int, now: int) -> None:
        """The server counts so many orders in its window of this length."""
        self._correct(self._orders, used_orders, window_ns, now)

    def silence(self, until_ns: int, banned: bool) -> None:
        """After a 429 only cancels go until then; after a 418 nothing does: it gets worse."""
        if banned:
            self._ban_until = max(self._ban_until, until_ns)
        else:
            self._quiet_until = max(self._quiet_until, until_ns)

    @staticmethod
    def _correct(windows: Sequence[Window], used: int, window_ns: int, now: int) -> None:
        for window in windows:
            window.forget(now)
            if window.window_ns == window_ns and used > window.used:
                window.spend(used - window.used, now)

    def __repr__(self) -> str:
        return f"Budget(weights={self._weights}, orders={self._orders}, cap={self._cap})"
