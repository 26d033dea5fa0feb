"""The live view of a run in a terminal. Drawing is a pure function of a `Screen`.

ticker = EventTicker(instrument)            beside the pump, with the other eyes
with Terminal(console) as terminal:
    terminal.update(Screen(engine.view(levels=12), ...))      as often as one likes
"""

import atexit
import io
import re
import time
from collections.abc import Callable
from typing import Final, Self, TextIO, cast

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment

from bot.ops.terminal_book import FIXED_LINES, LEVELS_MIN, book
from bot.ops.terminal_outlet import Outlet
from bot.ops.terminal_panels import banner, events, position, profit, risk, state, vitals
from bot.ops.terminal_screen import Notable, Screen, Vitals
from bot.ops.terminal_text import Line, beside, fit, plain_ascii
from bot.ops.terminal_ticker import EventTicker

__all__ = ["EventTicker", "Notable", "Screen", "Terminal", "Vitals", "picture", "render"]

PERIOD_S: Final = 0.2  # five pictures a second
TWO_COLUMNS_WIDTH: Final = 76
RIGHT_WIDTH: Final = (35, 54)
EVENTS_HEIGHT: Final = 3  # at least, where there is room for them at all
BOOK_HEIGHT_MIN: Final = 2 * LEVELS_MIN + FIXED_LINES
BOOK_HEIGHT_MAX: Final = 2 * 12 + FIXED_LINES

# No fonts from other people's servers in a picture of ours, and no space lost by any viewer.
SVG: Final = (
    re.sub(r"<!--.*?-->\s*|@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    .replace("Fira Code, monospace", "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace")
    .replace('-matrix">', '-matrix" xml:space="preserve">')
)


class Picture:
    """A screen as something that rich can print; it fills whatever room it is given."""

    __slots__ = ("screen",)

    def __init__(self, screen: Screen) -> None:
        self.screen = screen

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or options.size.height
        last = None
        for line in lines(self.screen, options.max_width, height):
            if last is not None:
                yield Segment.line()
            last = line
            if options.ascii_only:
                yield from (Segment(plain_ascii(s.text), s.style) for s in line)
            else:
                yield from line

    def __repr__(self) -> str:
        return f"<Picture of {self.screen.instrument.symbol} at {self.screen.view.now}>"


def render(screen: Screen) -> Picture:
    """A rich renderable of one moment. It never raises, and never exceeds its room."""
    return Picture(screen)


def lines(screen: Screen, width: int, height: int) -> list[Line]:
    """Exactly `height` lines of exactly `width` cells."""
    top = [fit(banner(screen.vitals, width), width), fit(state(screen, width), width)]
    room = height - len(top)
    if room <= 0 or width <= 0:
        return top[: max(0, height)]
    body = _two_columns if width >= TWO_COLUMNS_WIDTH else _one_column
    found = [*top, *body(screen, width, room)][:height]
    return [*found, *[fit([], width)] * (height - len(found))]


def _two_columns(screen: Screen, width: int, height: int) -> list[Line]:
    right_width = min(max(RIGHT_WIDTH[0], width * 45 // 100), RIGHT_WIDTH[1])
    left_width = width - right_width - 3
    room = height - EVENTS_HEIGHT
    panels = [
        [*position(screen, right_width), *profit(screen, right_width)],
        risk(screen, right_width),
        vitals(screen, right_width),
    ]
    numbers = [line for panel in panels for line in panel]
    if room >= len(numbers) + 2:
        numbers = [*panels[0], [], *panels[1], [], *panels[2]]
    spare = max(0, (room - len(numbers)) // 2)  # half of it for events
    tall = min(BOOK_HEIGHT_MAX, max(0, min(room, len(numbers) + spare)))
    body = beside(book(screen, left_width, tall), numbers[:tall], left_width, width)
    return [*body, *events(screen, width, height - len(body))]


def _one_column(screen: Screen, width: int, height: int) -> list[Line]:
    """A narrow terminal: what hurts first."""
    numbers = [*position(screen, width), *profit(screen, width)]
    left = height - len(numbers)
    if left >= BOOK_HEIGHT_MIN + EVENTS_HEIGHT:
        left -= EVENTS_HEIGHT
    tall = min(left, BOOK_HEIGHT_MAX)
    levels = book(screen, width, tall) if tall >= BOOK_HEIGHT_MIN else []
    body = [*numbers, *levels]
    return [*body, *events(screen, width, height - len(body))]


def picture(screen: Screen, width: int, height: int) -> str:
    """An SVG of the screen; the same screen always gives the same text."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        _environ={},
    )
    console.print(render(screen))
    return console.export_svg(title="mmbot", code_format=SVG, unique_id="mmbot")


class Terminal:
    """Shows screens on the console's alternate screen, at most five a second.

    `update` never waits for the terminal: a frame that finds the one before it still on
    its way is left out. On a console that is no terminal nothing is shown at all. The
    terminal is given back by `stop`, by leaving the `with` block, and at exit.
    """

    def __init__(self, console: Console, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._monotonic = monotonic
        self._live: Live | None = None
        self._outlet: Outlet | None = None
        self._file: TextIO | None = None
        self._next = 0.0
        self.drawn = 0
        self.skipped = 0  # frames that found the terminal busy

    def start(self) -> None:
        """Take the terminal over; does nothing the second time."""
        console = self._console
        if self._live is not None or not console.is_interactive or console.is_dumb_terminal:
            return
        self._file = cast(TextIO, console.file)
        self._outlet = Outlet(self._file)
        console.file = cast(TextIO, self._outlet)
        self._next = self._monotonic()
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        atexit.register(self.stop)
        self._live.start()

    def update(self, screen: Screen) -> bool:
        """Show `screen` if it is time to; True if it was drawn."""
        if self._live is None or self._outlet is None:
            return False
        now = self._monotonic()
        if now < self._next:
            return False
        if self._outlet.busy:
            self.skipped += 1
            return False
        self._next = max(self._next, now - PERIOD_S) + PERIOD_S  # late frames are not made up for
        self._live.update(render(screen), refresh=True)
        self.drawn += 1
        return True

    def stop(self) -> None:
        """Give the terminal back as it was; does nothing the second time."""
        live, outlet = self._live, self._outlet
        if live is None or outlet is None or self._file is None:
            return
        self._live = None
        atexit.unregister(self.stop)
        try:
            live.stop()
        finally:
            outlet.close()
            self._console.file = self._file

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        shown = "off" if self._live is None else "on"
        return f"<Terminal {shown} drawn={self.drawn} skipped={self.skipped}>"
