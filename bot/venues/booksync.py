"""Keeping a book in step with a venue's delta stream: buffer, snapshot, chain, gap, resync.

Sans-I/O. Two chain rules cover Binance (VENUES 1):

* spot: an event wholly old (last <= ours) is ignored, first > ours + 1 is a gap;
* futures: prev must equal the last id applied.

`admit` judges an event of a synced book and is compiled for the codec's loop; everything
that happens rarely (splicing a snapshot, back-off) is plain Python in `BookSync`.
"""

from collections import deque
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bot.domain.units import NS_PER_MS, NS_PER_S

SPOT: Final = 0
FUTURES: Final = 1

# Verdicts of `admit`.
NEXT: Final = 0
OLD: Final = 1
GAP: Final = 2

# The synced chain as an array, so that the codec's compiled loop can advance it.
SYNCED: Final = 0
LAST_ID: Final = 1
RULE: Final = 2
OLD_RUN: Final = 3
LAST_TRADE: Final = 4
CHAIN_FIELDS: Final = 5

BUFFERED_MAX: Final = 4_096
OLD_RUN_MAX: Final = 50  # so many old events in a row mean that the venue's ids began anew
SNAPSHOT_TIMEOUT_NS: Final = 5 * NS_PER_S
BACKOFF_FIRST_NS: Final = 250 * NS_PER_MS
BACKOFF_MAX_NS: Final = 10 * NS_PER_S

assert BACKOFF_FIRST_NS < BACKOFF_MAX_NS


@njit(cache=True, nogil=True)
def admit(chain: NDArray[Any], first_id: int, last_id: int, prev_id: int) -> int:
    """NEXT (and the chain advances), OLD or GAP for an event of a synced book."""
    last = chain[LAST_ID]
    if chain[RULE] == FUTURES:
        fits = prev_id == last and last_id >= last
    else:
        fits = first_id <= last + 1 and last_id > last
    if fits:
        chain[LAST_ID] = last_id
        chain[OLD_RUN] = 0
        return NEXT
    if last_id <= last and chain[OLD_RUN] < OLD_RUN_MAX:
        chain[OLD_RUN] += 1
        return OLD
    return GAP


class Delta(NamedTuple):
    """One depth event's ids; `body` is whatever the codec keeps to apply it later."""

    first_id: int
    last_id: int
    prev_id: int
    body: Any


class Splice(NamedTuple):
    """A snapshot that fits: apply it, then `deltas` in order."""

    snapshot: Any
    deltas: list[Delta]


class BookSync:
    """The chain of one book. `chain` is shared with the codec's compiled loop.

    The book is synced from the first `Splice` returned until `lose`.
    """

    __slots__ = (
        "_asked_at",
        "_deltas",
        "_failures",
        "_held",
        "_not_before",
        "_old_run",
        "chain",
        "resyncs",
    )

    def __init__(self, rule: int) -> None:
        self.chain: NDArray[Any] = np.zeros(CHAIN_FIELDS, np.int64)
        self.chain[RULE] = rule
        self.resyncs = 0
        self._deltas: deque[Delta] = deque()
        self._held: tuple[int, Any] | None = None  # a snapshot newer than every delta so far
        self._asked_at = -1
        self._not_before = 0
        self._failures = 0
        self._old_run = 0

    @property
    def synced(self) -> bool:
        """Whether deltas go straight into the book."""
        return bool(self.chain[SYNCED])

    def lose(self) -> None:
        """The chain broke: collect deltas again and wait for a snapshot."""
        self.chain[SYNCED] = 0
        self.chain[LAST_TRADE] = 0
        self._deltas.clear()
        self._held = None
        self._asked_at = -1

    def delta(self, delta: Delta) -> Splice | None:
        """Buffer a delta of an unsynced book; a held snapshot that it continues is spliced."""
        if self._deltas and not self._follows(self._deltas[-1], delta):
            if delta.last_id <= self._deltas[-1].last_id and self._old_run < OLD_RUN_MAX:
                self._old_run += 1
                return None
            self._deltas.clear()
        self._old_run = 0
        if len(self._deltas) == BUFFERED_MAX:
            self._deltas.popleft()
        self._deltas.append(delta)
        if self._held is None:
            return None
        last_id, body = self._held
        return self._splice(last_id, body)

    def snapshot(self, last_id: int, body: Any, now: int) -> Splice | None:
        """A REST snapshot came; it is spliced, held, or too old (asked for again, backing off)."""
        self._asked_at = -1
        if self.synced:
            return None
        return self._splice(last_id, body, now)

    def _splice(self, last_id: int, body: Any, now: int = -1) -> Splice | None:
        deltas = [d for d in self._deltas if not self._stale(d, last_id)]
        if not deltas:
            self._held = (last_id, body)
            return None
        if not self._bridges(deltas[0], last_id):
            self._held = None
            if now >= 0:
                wait = min(BACKOFF_FIRST_NS << min(self._failures, 16), BACKOFF_MAX_NS)
                self._failures += 1
                self._not_before = now + wait
            return None
        self.chain[SYNCED] = 1
        self.chain[LAST_ID] = deltas[-1].last_id
        self.chain[OLD_RUN] = 0
        self._deltas.clear()
        self._held = None
        self._failures = 0
        self.resyncs += 1
        return Splice(body, deltas)

    def _stale(self, delta: Delta, last_id: int) -> bool:
        if self.chain[RULE] == FUTURES:
            return delta.last_id < last_id
        return delta.last_id <= last_id

    def _bridges(self, delta: Delta, last_id: int) -> bool:
        if self.chain[RULE] == FUTURES:
            return delta.first_id <= last_id <= delta.last_id
        return delta.first_id <= last_id + 1 <= delta.last_id

    def _follows(self, before: Delta, delta: Delta) -> bool:
        if self.chain[RULE] == FUTURES:
            return delta.prev_id == before.last_id
        return before.last_id < delta.last_id and delta.first_id <= before.last_id + 1

    def take_snapshot_request(self, now: int) -> bool:
        """Whether to request a snapshot now; True counts as requested."""
        if self.synced or self._held is not None or not self._deltas or now < self._not_before:
            return False
        if self._asked_at >= 0 and now - self._asked_at < SNAPSHOT_TIMEOUT_NS:
            return False
        self._asked_at = now
        return True

    def deadline(self) -> int | None:
        """When time alone may turn `take_snapshot_request` true; None while nothing is awaited."""
        if self.synced or self._held is not None or not self._deltas:
            return None
        if self._asked_at >= 0:
            return self._asked_at + SNAPSHOT_TIMEOUT_NS
        return self._not_before

    def __repr__(self) -> str:
        if self.synced:
            return f"<BookSync synced u={self.chain[LAST_ID]}>"
        held = "" if self._held is None else f" held={self._held[0]}"
        return f"<BookSync buffering {len(self._deltas)}{held} failures={self._failures}>"
