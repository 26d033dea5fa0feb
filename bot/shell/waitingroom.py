"""Where requests wait in the handlers that brought them, by the owner's clock, without tasks."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any, Final, NamedTuple

WAITING_MAX: Final = 1_000  # beyond that the one that is due first goes on


class Closed(Exception):
    """The room was closed before the time had come."""


class Waiting(NamedTuple):
    """One who waits: its future is whether the time came, False when the room closes."""

    due: int
    future: asyncio.Future[bool]
    gone: Callable[[], bool] | None
    task: asyncio.Task[Any] | None


class WaitingRoom:
    """`clock` is in ns; the owner calls `tend` every few milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._waiting: dict[int, Waiting] = {}
        self._numbers = count()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, ns: int, gone: Callable[[], bool] | None = None) -> None:
        """Return after so long, or once `gone` says so. Raises Closed when the room closes."""
        if self._closed:
            raise Closed
        if len(self._waiting) >= WAITING_MAX:
            waiting = (one for one in self._waiting.values() if not one.future.done())
            if (first := min(waiting, key=due_of, default=None)) is not None:
                first.future.set_result(True)
        future = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        due = self._clock() + ns
        self._waiting[number] = Waiting(due, future, gone, asyncio.current_task())
        try:
            if not await future:
                raise Closed
        finally:
            del self._waiting[number]

    def tend(self, now: int) -> None:
        """Let go on who is due, in the order of their times."""
        if not self._waiting:
            return
        for one in sorted(self._waiting.values(), key=due_of):
            over = one.due <= now or (one.gone is not None and one.gone())
            if over and not one.future.done():
                one.future.set_result(True)

    async def close(self) -> None:
        """Send everybody home, and return when their tasks have ended."""
        self._closed = True
        waiting = list(self._waiting.values())
        for one in waiting:
            if not one.future.done():
                one.future.set_result(False)
        if tasks := [one.task for one in waiting if one.task is not None]:
            await asyncio.wait(tasks)

    def __repr__(self) -> str:
        return f"<WaitingRoom of {len(self)}{' closed' if self._closed else ''}>"


def due_of(waiting: Waiting) -> int:
    """When a time has come, ns."""
    return waiting.due
