"""The limits of a feed, in one place, with their relations to each other and to the venue's."""

from collections import deque
from http import HTTPStatus
from typing import Final

import msgspec

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.venues.binance.endpoints import Endpoints

BANNED: Final = 418  # "HTTP Return Codes": the address goes on sending after 429s
RETRY_AFTER_S_MAX: Final = 3 * 24 * 3_600  # the longest ban in the documents


class FeedLimits(msgspec.Struct, frozen=True):
    """Every limit of a feed. Of the address's budgets the feed takes a part: it is not alone."""

    open_timeout_ms: int = 5_000
    close_timeout_ms: int = 1_000
    frame_bytes_max: int = 4 << 20
    queue_frames_max: int = 1_024  # between socket and reader, which never waits for the consumer
    watch_ms: int = 50  # how often a connection is judged; adds to each deadline below
    silence_ms: int = 3_000  # nothing at all
    depth_frozen_ms: int = 1_000  # no depth after another stream moved; 0 is never
    ticker_frozen_ms: int = 0
    trade_frozen_ms: int = 0  # trades may rest while the book moves
    frozen_lag_ms: int = 250  # a message so close behind may tell what the other told already
    ping_interval_ms: int = 1_000
    pong_ms: int = 1_000  # without any message since the ping
    pong_behind_ms: int = 5_000  # although messages come: the stream is that far behind
    age_ms_max: int = 23 * 3_600_000
    age_jitter_ms: int = 3_600_000  # subtracted by chance
    overlap_ms: int = 10_000  # after that a successor need not have seen streams that may rest
    backoff_first_ms: int = 250
    backoff_ms_max: int = 30_000
    stable_ms: int = 60_000  # a connection that lived so long clears the back-off
    attempts_max: int = 100
    attempts_window_ms: int = 300_000
    snapshot_timeout_ms: int = 4_000
    snapshot_spacing_ms: int = 1_000
    snapshot_bytes_max: int = 4 << 20
    snapshot_weight_per_min_max: int = 600
    limited_ms: int = 60_000  # after 429 or 418 without Retry-After

    def __post_init__(self) -> None:
        if self.watch_ms <= 0 or self.ping_interval_ms <= 0 or self.queue_frames_max <= 0:
            raise ValueError("watch_ms, ping_interval_ms and queue_frames_max are positive")
        if self.watch_ms > min(self.silence_ms, self.pong_ms):
            raise ValueError("watch_ms exceeds a deadline that it has to keep")
        if self.pong_ms > self.pong_behind_ms:
            raise ValueError("pong_ms exceeds pong_behind_ms")
        if self.backoff_first_ms > self.backoff_ms_max:
            raise ValueError("backoff_first_ms exceeds backoff_ms_max")
        if self.age_jitter_ms >= self.age_ms_max:
            raise ValueError("age_jitter_ms leaves no age")

    def check(self, endpoints: Endpoints) -> None:
        """Raises ValueError where a limit of ours would break one of the venue's."""
        # One more a second: the pong that a ping of the venue's is owed.
        if 1_000 / self.ping_interval_ms + 1 > endpoints.messages_per_s_max:
            raise ValueError("ping_interval_ms sends more messages a second than the venue takes")
        if self.age_ms_max >= endpoints.connection_age_s_max * 1_000:
            raise ValueError("age_ms_max outlives a connection")
        window_s = self.attempts_window_ms / 1_000
        if self.attempts_max * endpoints.attempts_window_s > endpoints.attempts_max * window_s:
            raise ValueError("attempts_max exceeds what the venue allows an address")
        weight = self.snapshot_weight_per_min_max
        if not endpoints.snapshot_weight <= weight <= endpoints.weight_per_min_max:
            raise ValueError("snapshot_weight_per_min_max allows no snapshot, or too many")

    def frozen_ns(self, kind: str) -> int:
        """How long a stream of a kind may rest while others move; 0 is for ever."""
        ms = {"depth": self.depth_frozen_ms, "ticker": self.ticker_frozen_ms}
        return ms.get(kind, self.trade_frozen_ms) * NS_PER_MS

    def backoff_ns(self, failures: int, jitter: float) -> int:
        """Full jitter below a doubling ceiling; the first retry after good times is at once."""
        if failures == 0:
            return 0
        ceiling = min(self.backoff_first_ms << min(failures - 1, 30), self.backoff_ms_max)
        return int(jitter * ceiling * NS_PER_MS)

    def pause_ns(self, status: int, retry_after: str) -> int:
        """How long the venue wants to be left alone after an HTTP status."""
        if status not in (HTTPStatus.TOO_MANY_REQUESTS, BANNED):
            return 0
        if retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 9:
            return min(int(retry_after), RETRY_AFTER_S_MAX) * NS_PER_S
        return self.limited_ms * NS_PER_MS


class Allowance:
    """At most `amount_max` in any stretch of `window_ns`."""

    __slots__ = ("_amount_max", "_spent", "_window_ns")

    def __init__(self, amount_max: int, window_ns: int) -> None:
        self._amount_max = amount_max
        self._window_ns = window_ns
        self._spent: deque[tuple[int, int]] = deque()

    def wait_ns(self, now: int, amount: int) -> int:
        """ns until `amount` fits, 0 if it does now; `amount` is at most `amount_max`."""
        while self._spent and self._spent[0][0] + self._window_ns <= now:
            self._spent.popleft()
        excess = sum(spent for _, spent in self._spent) + amount - self._amount_max
        if excess <= 0:
            return 0
        for at, spent in self._spent:  # the oldest leaves the window first
            excess -= spent
            if excess <= 0:
                return at + self._window_ns - now
        return 0

    def spend(self, now: int, amount: int) -> None:
        """Take `amount`; the caller waited for it."""
        self._spent.append((now, amount))
