import asyncio

import pytest

from bot.shell.supervisor import Supervisor
from tests.shell.wire import eventually


async def fails(text: str) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(text)


async def test_a_job_that_fails_is_told_once_and_the_others_run_on() -> None:
    broke: list[Exception] = []
    supervisor = Supervisor(broke.append)
    supervisor.start(fails("first"))
    supervisor.start(asyncio.sleep(3_600))
    await eventually(lambda: broke)
    assert [str(failure) for failure in broke] == ["first"]
    assert repr(supervisor) == "<Supervisor of 1 jobs>"
    await supervisor.close()
    assert len(broke) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_close_waits_and_what_fails_in_the_end_is_told_too() -> None:
    broke: list[Exception] = []
    ended: list[str] = []

    async def tidies_up() -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            await asyncio.sleep(0)
            ended.append("tidy")
            raise RuntimeError("while ending")

    supervisor = Supervisor(broke.append)
    supervisor.start(tidies_up())
    await asyncio.sleep(0)
    await supervisor.close()
    assert (ended, [str(failure) for failure in broke]) == (["tidy"], ["while ending"])
    await supervisor.close()


async def test_attempts_give_the_result_or_none() -> None:
    broke: list[Exception] = []
    supervisor = Supervisor(broke.append)

    async def answer() -> int:
        return 42

    assert await supervisor.attempt(answer()) == 42
    assert await supervisor.attempt(fails("no answer")) is None
    supervisor.do(lambda: broke.append(ValueError("done")))
    supervisor.do(lambda: [].pop())  # type: ignore[func-returns-value]
    assert [type(failure) for failure in broke] == [RuntimeError, ValueError, IndexError]


async def test_a_cancellation_passes_through() -> None:
    task = asyncio.create_task(Supervisor([].append).attempt(asyncio.sleep(3_600)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
