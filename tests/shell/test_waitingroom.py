import asyncio
from typing import Any

import pytest

from bot.shell import waitingroom
from bot.shell.waitingroom import Closed, WaitingRoom
from tests.shell.wire import Clock


class Stage:
    """A room, and who came out of it in which order."""

    def __init__(self) -> None:
        self.clock = Clock(0)
        self.room = WaitingRoom(self.clock)
        self.out: list[str] = []

    async def enter(self, name: str, ns: int, **options: Any) -> asyncio.Task[None]:
        async def visit() -> None:
            try:
                await self.room.wait(ns, **options)
            except Closed:
                name_out = f"{name} sent home"
            else:
                name_out = name
            self.out.append(name_out)

        task = asyncio.create_task(visit())
        await asyncio.sleep(0)
        return task

    async def tend(self, now: int) -> list[str]:
        self.clock.now = now
        self.room.tend(now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.out


async def test_each_leaves_when_its_time_has_come_in_that_order() -> None:
    stage = Stage()
    tasks = [await stage.enter(name, ns) for name, ns in (("b", 20), ("a", 10), ("c", 30))]
    assert await stage.tend(9) == []
    assert await stage.tend(25) == ["a", "b"]
    assert len(stage.room) == 1
    assert await stage.tend(30) == ["a", "b", "c"]
    assert all(task.done() for task in tasks)


async def test_one_whose_client_is_gone_leaves_early() -> None:
    stage = Stage()
    left: list[bool] = []
    await stage.enter("a", 1_000, gone=lambda: bool(left))
    assert await stage.tend(1) == []
    left.append(True)
    assert await stage.tend(2) == ["a"]


async def test_closing_sends_everybody_home_and_waits_for_them() -> None:
    stage = Stage()
    tasks = [await stage.enter(name, 1_000) for name in "ab"]
    await stage.room.close()
    assert stage.out == ["a sent home", "b sent home"]
    assert all(task.done() for task in tasks)
    with pytest.raises(Closed):
        await stage.room.wait(1)
    assert repr(stage.room) == "<WaitingRoom of 0 closed>"


async def test_a_cancelled_one_leaves_no_trace() -> None:
    stage = Stage()
    task = await stage.enter("a", 10)
    task.cancel()
    assert await stage.tend(10) == []
    await asyncio.wait([task])
    assert len(stage.room) == 0
    await stage.room.close()


async def test_a_full_room_lets_those_go_that_are_due_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waitingroom, "WAITING_MAX", 2)
    stage = Stage()
    for name, ns in (("a", 20), ("b", 10), ("c", 30), ("d", 40)):
        await stage.enter(name, ns)
    assert await stage.tend(0) == ["b", "a"]
    assert len(stage.room) == 2
    await stage.room.close()
