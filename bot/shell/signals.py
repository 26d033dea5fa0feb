"""SIGINT, SIGTERM and SIGHUP on the event loop; a closed terminal stops a run, too."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_signals(told: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `told` for each of them; afterwards they do what they did before.

    Only on the main thread, with its event loop running.
    """
    loop = asyncio.get_running_loop()
    # What is ignored stays so: that is what nohup is for.
    before = [
        (name, action) for name in STOPS if (action := signal.getsignal(name)) is not signal.SIG_IGN
    ]
    for name, _ in before:
        loop.add_signal_handler(name, told, name)
    try:
        yield
    finally:
        for name, action in before:
            loop.remove_signal_handler(name)
            signal.signal(name, action)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Any of them cancels the task that is in here, and once that has cleaned up, the program.

    Raises KeyboardInterrupt after SIGINT and SystemExit(0) after the others.
    """
    task = asyncio.current_task()
    assert task is not None
    told: list[signal.Signals] = []

    def stop(name: signal.Signals) -> None:
        told.append(name)
        if len(told) == 1:  # a second one must not keep it from cleaning up
            task.cancel()

    with stop_signals(stop):
        try:
            yield
        except asyncio.CancelledError:
            if not told:
                raise
    if told:
        raise KeyboardInterrupt if told[0] is signal.SIGINT else SystemExit(0)
