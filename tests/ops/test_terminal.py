"""The terminal view: golden pictures, any view within its room, and a terminal given back."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.domain.view import OrderView, PnlView, View
from bot.ops.terminal import PERIOD_S, Notable, Screen, Terminal, Vitals, lines, picture, render
from tests.ops.screens import GOLDEN, SIZES, STATES, quoting, text

ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
TIMEOUT_S = 20.0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STATES)
def test_a_state_looks_as_it_was_approved(name: str, size: tuple[int, int]) -> None:
    """`python -m tests.ops.screens` writes these files; look at the difference first."""
    width, height = size
    golden = (GOLDEN / f"{name}_{width}x{height}.txt").read_text(encoding="utf-8")
    assert text(STATES[name](), width, height) == golden


def test_without_unicode_it_is_ascii_and_says_the_same() -> None:
    shown = text(quoting(), 120, 36, encoding="ascii")
    assert shown.isascii()
    assert "SIMULATED MARKET - no real orders, no real money" in shown
    assert "?" not in shown
    assert shown.count("> ") >= 4  # own orders stay marked


@pytest.mark.parametrize("width", [10, 30, 60, 75, 76, 100, 240])
@pytest.mark.parametrize("height", [1, 2, 3, 9, 14, 20, 30, 70])
@pytest.mark.parametrize("name", STATES)
def test_every_size_is_filled_and_never_exceeded(name: str, width: int, height: int) -> None:
    drawn = lines(STATES[name](), width, height)
    assert len(drawn) == height
    for line in drawn:
        assert sum(cell_len(segment.text) for segment in line) == width


def test_the_banner_is_the_last_line_to_go() -> None:
    assert text(quoting(), 60, 1).strip() == "SIMULATED MARKET — no real orders, no real money"


def test_nothing_jumps_when_numbers_grow() -> None:
    """Labels, rules and bars stay in their columns whatever the numbers are."""
    small, big = quoting(), quoting(position_lots=-399)
    big = replace(big, vitals=replace(big.vitals, placed=98_765, frames_per_s=12_345.0))
    before, after = (text(screen, 120, 36).split("\n") for screen in (small, big))
    for label in ("fair price", "POSITION", "spread ", "unexplained", "half-spread", "cancelled"):
        row = next(i for i, line in enumerate(before) if label in line)
        assert before[row].index(label) == after[row].index(label)
    assert before != after


# --- any view ---------------------------------------------------------------------------

INTS = st.integers(-(2**63), 2**63) | st.integers(-3, 3)
FLOATS = st.floats() | st.floats(0.0, 1e6)
MONEY = st.decimals(-(10**18), 10**18, allow_nan=False, allow_infinity=False, places=10)
TEXT = st.text(max_size=30) | st.sampled_from(["", "crossed", "\x1b[2J", "a\nb", "日本語" * 9])
LEVELS = st.lists(st.tuples(INTS, FLOATS), max_size=14).map(tuple)
STEPS = st.sampled_from([Decimal(x) for x in ("0.10", "1E-8", "5", "1E+2", "0.00025", "1.00")])
ORDERS = st.lists(
    st.builds(
        OrderView,
        TEXT,
        st.sampled_from(Side),
        INTS,
        INTS,
        INTS,
        st.sampled_from(["LIVE", "PENDING_NEW", "PENDING_CANCEL", "UNKNOWN", "FILLED", "?"]),
    ),
    max_size=9,
).map(tuple)
VIEWS = st.builds(
    View,
    now=INTS,
    trusted=st.booleans(),
    distrust=TEXT,
    level=st.sampled_from(["ACTIVE", "WIDEN", "REDUCE_ONLY", "PAUSED", "LOCKED", "", "new"]),
    causes=st.lists(TEXT, max_size=4).map(tuple),
    bid_tick=INTS,
    ask_tick=INTS,
    fair_ticks=FLOATS,
    sigma_bp=FLOATS,
    sigma_fast_bp=FLOATS,
    sigma_slow_bp=FLOATS,
    base_gamma=FLOATS,
    gamma=FLOATS,
    gamma_multiplier=FLOATS,
    age_ns=INTS,
    reservation_ticks=FLOATS,
    half_spread_ticks=FLOATS,
    position_lots=INTS,
    bids=LEVELS,
    asks=LEVELS,
    orders=ORDERS,
    pnl=st.builds(PnlView, *[MONEY] * 8),
)
MAYBE = st.none() | FLOATS
VITALS = st.builds(
    Vitals,
    venue=TEXT,
    simulated=st.booleans(),
    orders=st.sampled_from(["paper", "testnet", "live"]),
    scenario=TEXT,
    run_s=FLOATS,
    feed_lag_ms=MAYBE,
    decide_p50_us=MAYBE,
    frames_per_s=FLOATS,
    placed=INTS,
    two_sided=FLOATS,
)
TONES = st.sampled_from(["good", "plain", "wary", "bad"])
SCREENS = st.builds(
    Screen,
    VIEWS,
    st.builds(Instrument, TEXT, TEXT, TEXT, TEXT, STEPS, STEPS),
    VITALS,
    INTS,
    st.lists(st.builds(Notable, INTS, TEXT, TEXT, TONES, INTS), max_size=5).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(SCREENS, st.integers(1, 160), st.integers(1, 50))
def test_any_view_is_drawn_within_its_room(screen: Screen, width: int, height: int) -> None:
    drawn = lines(screen, width, height)
    assert len(drawn) == height
    for line in drawn:
        assert sum(cell_len(segment.text) for segment in line) == width
        assert all(segment.text.isprintable() for segment in line)


# --- a picture for the README -----------------------------------------------------------


def test_a_picture_is_deterministic_and_loads_nothing() -> None:
    svg = picture(quoting(), 120, 36)
    assert svg == picture(quoting(), 120, 36)
    assert "url(http" not in svg
    assert "font-face" not in svg
    assert "BTCUSDT" in svg
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own text


# --- the terminal -----------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Tape(io.StringIO):
    """A terminal that takes everything, or nothing while it is held."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.flows = threading.Event()
        self.flows.set()

    def write(self, text: str) -> int:
        assert self.flows.wait(TIMEOUT_S), "held for too long"
        return super().write(text)


def console_on(file: io.TextIOBase, **options: object) -> Console:
    settled = {"force_terminal": True, "_environ": {"TERM": "xterm"}, "legacy_windows": False}
    return Console(file=file, width=80, height=24, **{**settled, **options})  # type: ignore[arg-type]


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.001)


def shown(terminal: Terminal) -> None:
    """Wait until the terminal has taken what was drawn."""
    outlet = terminal._outlet
    assert outlet is not None
    eventually(lambda: not outlet.busy)


def test_it_draws_at_most_five_times_a_second() -> None:
    clock, tape = Clock(), Tape()
    with Terminal(console_on(tape), clock) as terminal:
        for _ in range(101):  # ten seconds in steps of a tenth
            shown(terminal)
            terminal.update(quoting())
            clock.now += 0.1
        assert terminal.drawn <= 51
        assert terminal.drawn >= 49
    assert repr(terminal) == f"<Terminal off drawn={terminal.drawn} skipped=0>"


def test_the_terminal_is_given_back() -> None:
    tape = Tape()
    console = console_on(tape)
    terminal = Terminal(console, Clock())
    terminal.start()
    terminal.start()
    shown(terminal)
    assert terminal.update(quoting())
    terminal.stop()
    terminal.stop()
    written = tape.getvalue()
    assert written.startswith(ENTER)
    assert "BTCUSDT" in written
    assert written.count(ENTER) == written.count(LEAVE) == 1
    assert CURSOR in written[-30:]
    assert console.file is tape
    assert terminal.update(quoting()) is False


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_terminal_is_given_back_after_an_error(error: type[BaseException]) -> None:
    tape = Tape()
    with pytest.raises(error), Terminal(console_on(tape), Clock()):
        raise error
    assert tape.getvalue().rstrip().endswith(LEAVE)


def test_a_held_terminal_does_not_hold_the_loop() -> None:
    clock, tape = Clock(), Tape()
    terminal = Terminal(console_on(tape), clock)
    terminal.start()
    shown(terminal)
    tape.flows.clear()
    assert terminal.update(quoting())  # on its way, and stuck
    for _ in range(50):
        clock.now += PERIOD_S
        assert terminal.update(quoting()) is False
    assert terminal.skipped == 50
    tape.flows.set()
    shown(terminal)
    assert terminal.update(quoting())
    terminal.stop()
    assert tape.getvalue().rstrip().endswith(LEAVE)


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"_environ": {"TERM": "dumb"}}])
def test_nothing_is_written_where_there_is_no_terminal(options: dict[str, object]) -> None:
    tape = Tape()
    with Terminal(console_on(tape, **options), Clock()) as terminal:
        assert terminal.update(quoting()) is False
    assert tape.getvalue() == ""


PROGRAM = """
import asyncio
from rich.console import Console
from bot.ops.terminal import Terminal
from tests.ops.screens import quoting

async def run():
    with Terminal(Console()) as terminal:
        while True:
            terminal.update(quoting())
            await asyncio.sleep(0.01)

asyncio.run(run())
"""


def test_ctrl_c_gives_a_real_terminal_back() -> None:
    """A program in a pseudo terminal, interrupted while it draws."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        cwd=root,
        env={**environment, "PYTHONPATH": str(root)},
    )
    os.close(theirs)
    written = b""
    try:
        while b"BTCUSDT" not in written:
            written += os.read(ours, 65_536)
        child.send_signal(signal.SIGINT)
        while chunk := read(ours):
            written += chunk
        assert child.wait(TIMEOUT_S) != 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert written.count(ENTER.encode()) == 1
    assert written.rstrip().endswith(LEAVE.encode())
    assert CURSOR.encode() in written[-30:]


def read(descriptor: int) -> bytes:
    """What the other side wrote, empty once it is gone (Linux says so with an error)."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""


def test_a_screen_can_be_printed_once() -> None:
    """`render` is any rich renderable: it fills what the console offers."""
    assert repr(render(quoting())).startswith("<Picture of BTCUSDT at ")
