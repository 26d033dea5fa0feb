"""A text file whose writer never waits."""

import io
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bot.ops.terminal_outlet import Outlet

TIMEOUT_S = 20.0


class Held(io.StringIO):
    """A terminal that takes nothing until it is released."""

    encoding = "latin-1"

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()

    def write(self, text: str) -> int:
        assert self.flows.wait(TIMEOUT_S), "held for too long"
        return super().write(text)


class Gone(io.StringIO):
    """A terminal whose window was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("gone")


@pytest.fixture
def held() -> Iterator[Held]:
    terminal = Held()
    yield terminal
    terminal.flows.set()


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.001)


def test_what_is_flushed_arrives_in_order() -> None:
    target = io.StringIO()
    outlet = Outlet(target)
    for i in range(100):
        assert outlet.write(f"{i} ") == len(f"{i} ")
        outlet.flush()
    outlet.write("end")
    assert outlet.close()
    assert target.getvalue() == "".join(f"{i} " for i in range(100)) + "end"
    assert repr(outlet) == "<Outlet 101 of 101 pieces through, gone=None>"


def test_nothing_leaves_before_a_flush() -> None:
    target = io.StringIO()
    outlet = Outlet(target)
    outlet.write("a")
    assert not outlet.busy
    outlet.flush()
    outlet.flush()
    eventually(lambda: not outlet.busy)
    assert target.getvalue() == "a"
    assert outlet.close()


def test_a_held_terminal_makes_it_busy_and_nobody_waits(held: Held) -> None:
    outlet = Outlet(held)
    outlet.write("a")
    outlet.flush()
    assert outlet.busy
    assert not outlet.close(patience_s=0.01)
    held.flows.set()
    eventually(lambda: not outlet.busy)
    assert held.getvalue() == "a"


def test_a_terminal_that_went_away_swallows_the_rest() -> None:
    outlet = Outlet(Gone())
    for _ in range(3):
        outlet.write("a")
        outlet.flush()
    assert outlet.close()
    assert not outlet.busy
    assert isinstance(outlet.gone, BrokenPipeError)


def test_it_passes_for_its_target(held: Held) -> None:
    outlet = Outlet(held)
    assert outlet.encoding == "latin-1"
    assert outlet.isatty() is False
    with pytest.raises(io.UnsupportedOperation):
        outlet.fileno()
    assert outlet.close()
