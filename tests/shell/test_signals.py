import asyncio
import os
import signal

import pytest

from bot.shell.signals import STOPS, ended_by_signals, stop_signals
from tests.shell.wire import eventually


async def test_signals_are_told_and_then_do_what_they_did_before() -> None:
    told: list[signal.Signals] = []
    before = [signal.getsignal(name) for name in STOPS]
    with stop_signals(told.append):
        for name in STOPS:
            os.kill(os.getpid(), name)
            await eventually(lambda: len(told) == STOPS.index(name) + 1)  # noqa: B023
    assert told == list(STOPS)
    assert [signal.getsignal(name) for name in STOPS] == before


def handler(name: signal.Signals) -> object:
    return signal.getsignal(name)


async def test_also_after_a_failure() -> None:
    before = [signal.getsignal(name) for name in STOPS]
    with pytest.raises(ZeroDivisionError), stop_signals(print):
        1 / len([name for name, old in zip(STOPS, before, strict=True) if old is handler(name)])
    assert [signal.getsignal(name) for name in STOPS] == before


async def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told: list[signal.Signals] = []
    try:
        with stop_signals(told.append):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually(lambda: told)
        assert told == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("name", "end"), [("SIGTERM", SystemExit), ("SIGINT", KeyboardInterrupt)])
async def test_a_signal_ends_the_program_once_it_has_cleaned_up(
    name: str, end: type[BaseException]
) -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), signal.Signals[name])
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.Signals[name])
            await asyncio.sleep(0)  # a second one, meanwhile
            await asyncio.sleep(0)
            cleaned = True

    with pytest.raises(end), ended_by_signals():
        await work()
    assert cleaned


async def test_a_cancellation_that_is_no_signal_is_one() -> None:
    async def work() -> None:
        with ended_by_signals():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
