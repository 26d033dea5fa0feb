"""An event loop whose time jumps to the next timer: hours of waiting pass in no time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from bot.domain.units import NS_PER_S
from bot.shell.clock import Clock

START = 1_700_000_000 * NS_PER_S


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing that does not happen at once."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and no timer runs"
            self.loop.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is `now_s`, and moves only by what timers wait for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class VirtualClock(Clock):
    """The clock of the virtual loop that runs."""

    __slots__ = ()

    def now(self) -> int:
        return START + round(asyncio.get_running_loop().time() * NS_PER_S)


def seconds() -> float:
    """Virtual time since the test began."""
    return round(asyncio.get_running_loop().time(), 3)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs on a virtual loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
