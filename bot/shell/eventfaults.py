"""What may happen to the events of a user on their way to the private sockets.

Each event goes through the faults that are switched on, in this order: lost (dropped, or
the stream is silent), duplicated, shuffled, delayed. Market data never comes here.
"""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final, NamedTuple

from bot.domain.units import NS_PER_MS

HELD_MAX: Final = 20_000  # events under way; beyond that the one that is due first is lost
DELAY_MS_MAX: Final = 3_600_000
WINDOW_MAX: Final = 1_000
COPIES_MAX: Final = 100


class EventCounts(NamedTuple):
    """Events since the start; `held` are still under way."""

    sent: int
    lost: int
    held: int


class Held(NamedTuple):
    """An event under way; leaves at `due` (ns), equal ones in the order of `number`."""

    due: int
    number: int
    key: str
    raw: bytes


def ns_of(ms: float, most_ms: float = DELAY_MS_MAX) -> int:
    """Milliseconds as ns. ValueError below 0 and beyond `most_ms`."""
    if not 0 <= ms <= most_ms:
        raise ValueError(f"{ms} ms is no time between 0 and {most_ms:g} ms")
    return round(ms * NS_PER_MS)


class EventFaults:
    """The way from the venue's account to the private sockets.

    `publish` writes one event (key, raw), `cut` drops the private sockets; `clock` is in ns.
    The owner calls `tend` every few milliseconds. Events that are late keep their order
    except where a fault is there to break it.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        publish: Callable[[str, bytes], None],
        cut: Callable[[], None],
    ) -> None:
        self.shut = False  # while so, the owner opens no private socket
        self._clock = clock
        self._publish = publish
        self._cut = cut
        self._active = False
        self._numbers = count()
        self._held: list[Held] = []
        self._last_due = 0
        self._window: list[tuple[str, bytes]] = []
        self._window_due = 0
        self._sent = self._lost = 0
        self._reset()

    def _reset(self) -> None:
        self._delay = 0
        self._copies = 0
        self._copies_left: int | None = None
        self._copies_later = 0
        self._shuffled = 1
        self._shuffled_within = 0
        self._random = Random(0)  # noqa: S311 (a seed decides; chance would not repeat a test)
        self._drop = 0
        self._silent = False

    # --- The way ---------------------------------------------------------------------------

    def publish(self, key: str, raw: bytes) -> None:
        """Send one event, or let happen to it what is switched on."""
        if not self._active:
            self._sent += 1
            self._publish(key, raw)
            return
        if self._silent or self._drop > 0:
            if not self._silent:
                self._drop -= 1
            self._lost += 1
            return
        now = self._clock()
        self._shuffle(key, raw, now)
        if self._copies and self._copies_left != 0:
            if self._copies_left is not None:
                self._copies_left -= 1
            for _ in range(self._copies):
                if self._copies_later:
                    self._hold(now + self._delay + self._copies_later, key, raw)
                else:
                    self._shuffle(key, raw, now)
        self.tend(now)

    def _shuffle(self, key: str, raw: bytes, now: int) -> None:
        if self._shuffled == 1:
            self._queue(key, raw, now)
            return
        if not self._window:
            self._window_due = now + self._shuffled_within
        self._window.append((key, raw))
        if len(self._window) >= self._shuffled:
            self._open_window(now)

    def _open_window(self, now: int) -> None:
        """Queue the window in another order than the one in which it was filled."""
        window, self._window = self._window, []
        order = list(range(len(window)))
        self._random.shuffle(order)
        if order == sorted(order) and len(order) > 1:
            order[0], order[1] = order[1], order[0]
        for i in order:
            self._queue(*window[i], now)

    def _queue(self, key: str, raw: bytes, now: int) -> None:
        self._last_due = max(now + self._delay, self._last_due)
        self._hold(self._last_due, key, raw)

    def _hold(self, due: int, key: str, raw: bytes) -> None:
        if len(self._held) == HELD_MAX:
            heapq.heappop(self._held)
            self._lost += 1
        heapq.heappush(self._held, Held(due, next(self._numbers), key, raw))

    def tend(self, now: int) -> None:
        """Send what is due."""
        if self._window and self._window_due <= now:
            self._open_window(now)
        while self._held and self._held[0].due <= now:
            self._release()

    def _release(self) -> None:
        event = heapq.heappop(self._held)
        self._sent += 1
        self._publish(event.key, event.raw)

    def counts(self) -> EventCounts:
        """For tests: how many events were sent and lost, and how many are under way."""
        return EventCounts(self._sent, self._lost, len(self._held) + len(self._window))

    def close(self) -> None:
        """Forget what is under way."""
        self._lost += len(self._held) + len(self._window)
        self._held.clear()
        self._window.clear()

    # --- The faults; ValueError for a number out of its range ------------------------------

    def delay(self, ms: float) -> None:
        """Send each event so much later."""
        self._delay = ns_of(ms)
        self._active = True

    def duplicate(
        self, copies: int = 1, *, times: int | None = None, later_ms: float = 0.0
    ) -> None:
        """Send each of the next `times` events (or all) so often again, so much later."""
        if not 1 <= copies <= COPIES_MAX or (times is not None and times < 1):
            raise ValueError(f"copies must be 1 to {COPIES_MAX}, times at least 1")
        self._copies_later = ns_of(later_ms)
        self._copies, self._copies_left = copies, times
        self._active = True

    def shuffle(self, window: int = 4, *, within_ms: float = 50.0, seed: int = 1) -> None:
        """Change the order of every `window` events, or of those of so long a time."""
        if not 2 <= window <= WINDOW_MAX:
            raise ValueError(f"window must be 2 to {WINDOW_MAX}")
        self._shuffled_within = ns_of(within_ms)
        self._shuffled = window
        self._random = Random(seed)  # noqa: S311 (see `_reset`)
        self._active = True

    def drop(self, events: int) -> None:
        """Lose the next so many events."""
        if events < 1:
            raise ValueError("events must be at least 1")
        self._drop = events
        self._active = True

    def silence(self) -> None:
        """Lose every event; the sockets stay open and answer pings."""
        self._silent = self._active = True

    def cut(self, *, stay_shut: bool = False) -> None:
        """Drop the private sockets, and open none until healed if they are to stay shut."""
        self.shut = self.shut or stay_shut
        self._cut()

    def heal(self) -> None:
        """Send in order what is under way, and misbehave no more."""
        if self._window:
            self._open_window(self._clock())
        while self._held:
            self._release()
        self._last_due = 0
        self.shut = self._active = False
        self._reset()

    def __repr__(self) -> str:
        return f"<EventFaults {'on' if self._active else 'off'} {self.counts()}>"
