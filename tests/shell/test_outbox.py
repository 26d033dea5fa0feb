"""What waits for its budget, and tasks that are neither lost nor silent."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bot.domain.units import NS_PER_MS, NS_PER_S
from bot.shell import outbox
from bot.shell.outbox import Outbox, OutboxFull, Tasks
from bot.venues.orderentry import Call, Priority
from tests.shell.virtual import VirtualClock, virtually

CANCEL = Call("cancel", {}, Priority.CANCEL)
PLACE = Call("place", {}, Priority.PLACE)
ASK = Call("ask", {}, Priority.RECONCILE)


class Budget:
    """So many calls a second; cancels pass."""

    def __init__(self, clock: VirtualClock, a_second: int) -> None:
        self._clock = clock
        self._every = NS_PER_S // a_second
        self._next = 0
        self.order: list[int] = []

    def wait_ns(self, priority: int, weight: int, orders: int, now: int) -> int:
        return 0 if priority == Priority.CANCEL else max(0, self._next - now)

    def spent(self, weight: int, orders: int, now: int) -> None:
        self._next = now + self._every


def job(log: list[str], name: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        log.append(name)

    return run


@virtually
async def test_calls_leave_as_the_budget_allows_the_most_urgent_first() -> None:
    clock, broken, log = VirtualClock(), [], []  # type: ignore[var-annotated]
    tasks = Tasks(broken.append)
    box: Any = Outbox(Budget(clock, 2), clock, tasks)  # type: ignore[arg-type]
    box.post(job(log, "place 1"), PLACE)
    box.post(job(log, "ask"), ASK)
    box.post(job(log, "place 2"), PLACE)
    box.post(job(log, "cancel"), CANCEL)
    await asyncio.sleep(0.01)
    assert log == ["place 1", "cancel"]
    await asyncio.sleep(0.6)
    assert log == ["place 1", "cancel", "place 2"]
    await asyncio.sleep(0.6)
    assert log[-1] == "ask"
    assert len(box) == 0
    assert broken == []


@virtually
async def test_a_question_waits_for_its_turn() -> None:
    clock = VirtualClock()
    box = Outbox(Budget(clock, 10), clock, Tasks(lambda error: None))  # type: ignore[arg-type]
    began = clock.now()
    for _ in range(4):
        await box.admitted(ASK)
    assert clock.now() - began == 300 * NS_PER_MS


@virtually
async def test_what_waits_is_forgotten_on_close() -> None:
    clock = VirtualClock()
    log: list[str] = []
    box = Outbox(Budget(clock, 1), clock, Tasks(lambda error: None))  # type: ignore[arg-type]
    for n in range(3):
        box.post(job(log, str(n)), PLACE)
    box.close()
    await asyncio.sleep(10.0)
    assert log == ["0"]


@virtually
async def test_a_failure_reaches_whoever_answers_for_it() -> None:
    broken: list[Exception] = []
    tasks = Tasks(broken.append)

    async def fail() -> None:
        raise LookupError("gone")

    tasks.start(fail(), "fail")
    await asyncio.sleep(0.01)
    assert [str(error) for error in broken] == ["gone"]
    assert len(tasks) == 0


@virtually
async def test_closing_ends_what_runs() -> None:
    broken: list[Exception] = []
    tasks = Tasks(broken.append)
    tasks.start(asyncio.sleep(1_000.0), "long")
    await tasks.close()
    assert (len(tasks), broken) == (0, [])


@virtually
async def test_too_much_under_way_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "UNDER_WAY_MAX", 2)
    clock = VirtualClock()
    tasks = Tasks(lambda error: None)
    box = Outbox(Budget(clock, 1), clock, tasks)  # type: ignore[arg-type]
    tasks.start(asyncio.sleep(1.0), "a")
    tasks.start(asyncio.sleep(1.0), "b")
    with pytest.raises(OutboxFull):
        tasks.start(asyncio.sleep(1.0), "c")
    await tasks.close()
    log: list[str] = []
    for n in range(3):
        box.post(job(log, str(n)), PLACE)
    with pytest.raises(OutboxFull):
        box.post(job(log, "4"), PLACE)
    box.close()
    await tasks.close()
