"""What is under way to the venue: tasks with strong references, and what waits for its budget.

A call leaves at once where the budget lets it; else it waits, the most urgent first. Cancels go
before amends, amends before placements, questions last.
"""

import asyncio
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, Final

from bot.core.budget import Budget
from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell.clock import Clock
from bot.venues.orderentry import Call

UNDER_WAY_MAX: Final = 4_096
WAIT_NS_MIN: Final = NS_PER_MS  # a timer may be a little early: no busy waiting

Job = Callable[[], Coroutine[Any, Any, None]]


class OutboxFull(RuntimeError):
    """More is under way than any venue would answer: our own fault."""


class Tasks:
    """Background tasks that are neither lost nor silent: a failure reaches `broke`."""

    __slots__ = ("_broke", "_tasks")

    def __init__(self, broke: Callable[[Exception], None]) -> None:
        self._broke = broke
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run `job` until it ends, or until `close`. Raises OutboxFull."""
        if len(self._tasks) >= UNDER_WAY_MAX:
            job.close()
            raise OutboxFull(f"{len(self._tasks)} requests are under way")
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            if not isinstance(error, Exception):
                raise error
            self._broke(error)

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def __len__(self) -> int:
        return len(self._tasks)


class Outbox:
    """Starts jobs as the budget allows."""

    __slots__ = ("_alarm", "_budget", "_clock", "_sequence", "_tasks", "_waiting")

    def __init__(self, budget: Budget, clock: Clock, tasks: Tasks) -> None:
        self._budget = budget
        self._clock = clock
        self._tasks = tasks
        self._waiting: list[tuple[int, int, Call, Job]] = []  # by priority, then by age
        self._sequence = 0
        self._alarm: asyncio.TimerHandle | None = None

    def post(self, job: Job, call: Call) -> None:
        """Start `job` now, or once the budget lets a call of this price go. Raises OutboxFull."""
        if not self._waiting and self._admit(call):
            self._tasks.start(job(), call.method)
            return
        if len(self._waiting) >= UNDER_WAY_MAX:
            raise OutboxFull(f"{len(self._waiting)} requests wait for their budget")
        self._sequence += 1
        heappush(self._waiting, (call.priority, self._sequence, call, job))
        self._release()

    async def admitted(self, call: Call) -> None:
        """Return once the budget lets this call go."""
        while not self._admit(call):
            wait_s = self._wait_s(call)
            await asyncio.sleep(wait_s)

    def _admit(self, call: Call) -> bool:
        now = self._clock.now()
        if self._budget.wait_ns(call.priority, call.weight, call.orders, now) > 0:
            return False
        self._budget.spent(call.weight, call.orders, now)
        return True

    def _wait_s(self, call: Call) -> float:
        """Seconds until it is worth asking again whether a call may go."""
        wait = self._budget.wait_ns(call.priority, call.weight, call.orders, self._clock.now())
        return max(wait, WAIT_NS_MIN) / NS_PER_S

    def _release(self) -> None:
        """Start what may go; come back when the first of the rest may."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._waiting:
            _, _, call, job = self._waiting[0]
            if not self._admit(call):
                loop = asyncio.get_running_loop()
                self._alarm = loop.call_later(self._wait_s(call), self._release)
                return
            heappop(self._waiting)
            self._tasks.start(job(), "waited")

    def close(self) -> None:
        """Forget what waits; nothing of it has been sent."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Outbox under_way={len(self._tasks)} waiting={len(self._waiting)}>"
