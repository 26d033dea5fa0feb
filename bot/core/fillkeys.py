"""Fills that are known: what a late report repeats is not booked twice.

The order table knows the fills of the orders that it remembers. A venue repeats fills of older
ones too, after a reconnect or a restart; these keys outlive the orders and the run.
"""

from typing import Final

from bot.domain.units import DAY_NS, Side

FILL_KEYS_MAX: Final = 262_144  # 26 fills a minute for a week; 80 MB
REMEMBERED_NS: Final = 7 * DAY_NS  # a venue repeats no execution after so long

FillKey = tuple[str, str, Side]  # order, trade, side: one execution


class FillKeys:
    """Keys (order, trade, side) with their times in ns, oldest first.

    A trade id alone is no key: two fills of one trade were seen, when a position flipped.
    """

    __slots__ = ("_keys", "_limit", "_remembered_ns")

    def __init__(self, limit: int = FILL_KEYS_MAX, remembered_ns: int = REMEMBERED_NS) -> None:
        """At most `limit` >= 1 keys, each for `remembered_ns`; the oldest is forgotten first."""
        if limit < 1:
            raise ValueError(f"limit {limit} must be at least 1")
        self._keys: dict[FillKey, int] = {}
        self._limit = limit
        self._remembered_ns = remembered_ns

    def seen(self, order_id: str, trade_id: str, side: Side, now: int) -> bool:
        """Whether this fill was told before; from now on it was."""
        known = self._keys.get((order_id, trade_id, side))
        if known is not None and now - known <= self._remembered_ns:
            return True
        self.add(order_id, trade_id, side, now)
        return False

    def knows(self, order_id: str, trade_id: str, side: Side) -> bool:
        """Whether this fill was told, however long ago it may be; learns nothing."""
        return (order_id, trade_id, side) in self._keys

    def add(self, order_id: str, trade_id: str, side: Side, at: int) -> None:
        """Remember a fill of `at`; those of earlier journals come in the order of their times."""
        key = (order_id, trade_id, side)
        self._keys.pop(key, None)
        self._keys[key] = at
        self._forget(at)

    def _forget(self, now: int) -> None:
        """Drop what is too old or too much, from the front of the insertion order."""
        while self._keys:
            oldest = next(iter(self._keys))
            too_old = now - self._keys[oldest] > self._remembered_ns
            if not too_old and len(self._keys) <= self._limit:
                return
            del self._keys[oldest]

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"FillKeys({len(self._keys)} of {self._limit})"
