"""One live run on the event loop: inbox -> pump, timers, snapshots, and an orderly end.

    wait for the inbox, or until something is due
    drain, learn, decide, act                      (the pump)
    fetch a snapshot if the book wants one

Ends when `stop` was called and no own order is left, or STOP_NS_MAX later, or at `give_up`.
"""

from collections.abc import Callable
from typing import Final

from bot.core.engine import Engine
from bot.domain.events import QuotingStopped
from bot.domain.units import NS_PER_S, Side
from bot.shell.clock import Clock
from bot.shell.inbox import Inbox
from bot.shell.pump import Pump

BATCH_MAX: Final = 4_096
IDLE_NS: Final = NS_PER_S  # the loop goes round at least so often
STOP_NS_MAX: Final = 10 * NS_PER_S  # for the venue's word on the last cancels

OnBatch = Callable[[int, int], None]


class Daemon:
    """Drives a pump until `stop`. `turns` grows for as long as the loop is alive.

    `on_batch` is told when a batch was drained, even an empty one, and when it was done, ns.
    """

    __slots__ = (
        "_clock",
        "_engine",
        "_inbox",
        "_on_batch",
        "_pump",
        "_request_snapshot",
        "_stop_by",
        "reason",
        "turns",
    )

    def __init__(
        self,
        engine: Engine,
        pump: Pump,
        inbox: Inbox,
        clock: Clock,
        request_snapshot: Callable[[], None],
        on_batch: OnBatch,
    ) -> None:
        self._engine = engine
        self._pump = pump
        self._inbox = inbox
        self._clock = clock
        self._request_snapshot = request_snapshot
        self._on_batch = on_batch
        self._stop_by: int | None = None
        self.reason = ""
        self.turns = 0

    def stop(self, reason: str) -> None:
        """Cancel every order and end once the venue has confirmed; the first reason stands."""
        if self._stop_by is not None:
            return
        now = self._clock.now()
        self.reason = reason
        self._stop_by = now + STOP_NS_MAX
        self._inbox.put_event(QuotingStopped(now, reason))

    def give_up(self) -> None:
        """Do not wait for confirmations any longer."""
        self._stop_by = 0
        self._inbox.wake()

    async def run(self) -> bool:
        """Trade until stopped; whether every own order was confirmed to be gone."""
        while not self._is_over():
            await self._inbox.wait(self._until())
            self._turn()
        return not self._has_working_orders()

    def settle(self) -> None:
        """Learn what is left in the inbox, after the end."""
        while len(self._inbox):
            self._turn()

    def _turn(self) -> None:
        items = self._inbox.drain(BATCH_MAX)
        now = self._clock.now()
        if items:
            self._pump.batch(items, now)
        else:
            self._pump.wake(now)
        if self._pump.wants_snapshot(now):
            self._request_snapshot()
        self._on_batch(now, self._clock.now())
        self.turns += 1

    def _until(self) -> int:
        latest = self._clock.now() + IDLE_NS
        if self._stop_by is not None:
            latest = min(latest, self._stop_by)
        due = self._pump.due()
        return latest if due is None else min(due, latest)

    def _has_working_orders(self) -> bool:
        orders = self._engine.orders
        return any(orders.working(side) for side in Side)

    def _is_over(self) -> bool:
        if self._stop_by is None:
            return False
        if self._clock.now() >= self._stop_by:
            return True
        return len(self._inbox) == 0 and not self._has_working_orders()

    def __repr__(self) -> str:
        state = f"stopping: {self.reason}" if self._stop_by is not None else "trading"
        return f"<Daemon {state} turns={self.turns}>"
