"""The only reader of time and of chance.

Everything else gets `now` as an argument, or a `Clock` if it lives in the shell.
"""

import secrets
import time
from random import SystemRandom

RUN_ID_BYTES = 8


class Clock:
    """Nanoseconds since the epoch that never go back.

    The epoch is read once and the monotonic clock is added to it, so a step of the wall
    clock (a leap second, an operator, a first NTP correction) is never seen. The price: after
    a suspend of the machine `now` is late by as long as it slept.
    """

    __slots__ = ("_epoch", "_random", "_started")

    def __init__(self) -> None:
        self._started = time.monotonic_ns()
        self._epoch = time.time_ns()
        self._random = SystemRandom()

    def now(self) -> int:
        """Time now, ns since the epoch."""
        return self._epoch + time.monotonic_ns() - self._started

    def jitter(self) -> float:
        """Chance, uniform in [0, 1): spreads retries of many processes."""
        return self._random.random()

    def run_id(self) -> str:
        """A name that no other run has: 16 hex digits."""
        return secrets.token_hex(RUN_ID_BYTES)

    def __repr__(self) -> str:
        return f"<Clock at {self.now()}>"
