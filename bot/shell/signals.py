"""SIGINT and SIGTERM as calls on the event loop."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

STOPS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals(told: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `told` for each of them; afterwards they do what they did before.

    Only on the main thread, with its event loop running.
    """
    loop = asyncio.get_running_loop()
    before = [(name, signal.getsignal(name)) for name in STOPS]
    for name in STOPS:
        loop.add_signal_handler(name, told, name)
    try:
        yield
    finally:
        for name, action in before:
            loop.remove_signal_handler(name)
            signal.signal(name, action)
