"""The only place that catches everything: what breaks a part of a run ends the run in order."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Supervisor:
    """Runs parts of a run and hands each failure to `broke`, which is to stop the run.

    No failure comes out of here, and none is lost: half a bot is none, but it must still
    cancel its orders. What is no `Exception` (a cancellation, an exit) passes through.
    """

    __slots__ = ("_broke", "_tasks")

    def __init__(self, broke: Callable[[Exception], None]) -> None:
        self._broke = broke
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job beside the run until it ends, or until `close`."""
        self._tasks.append(asyncio.create_task(self.attempt(job)))

    async def attempt(self, job: Coroutine[Any, Any, Result]) -> Result | None:
        """Run a job; None when it broke."""
        try:
            return await job
        except Exception as failure:
            self._broke(failure)
            return None

    def do(self, work: Callable[[], None]) -> None:
        """Call `work`; as `attempt`, for what does not wait."""
        try:
            work()
        except Exception as failure:
            self._broke(failure)

    async def close(self) -> None:
        """Cancel the jobs that still run, and wait until each has ended."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def __repr__(self) -> str:
        return f"<Supervisor of {sum(not task.done() for task in self._tasks)} jobs>"
