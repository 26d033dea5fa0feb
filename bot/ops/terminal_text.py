"""Numbers and lines of exactly so many cells: what every panel is written with.

A `Line` is a list of rich segments. Nothing here knows what the numbers mean.
"""

from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from typing import Final

from rich.segment import Segment
from rich.style import Style

from bot.domain.units import NS_PER_MS, NS_PER_S

Line = list[Segment]

PLAIN: Final = Style()
BOLD: Final = Style.parse("bold")
QUIET: Final = Style.parse("bright_black")
TITLE: Final = Style.parse("cyan")
GOOD: Final = Style.parse("green")
WARY: Final = Style.parse("yellow")
BAD: Final = Style.parse("bold red")
BUY: Final = Style.parse("green")
SELL: Final = Style.parse("red")
OWN: Final = Style.parse("bold bright_white")
FAIR: Final = Style.parse("bold cyan")
RESERVATION: Final = Style.parse("bold magenta")
LOUD: Final = Style.parse("bold black on bright_yellow")
LOUD_GOOD: Final = Style.parse("bold black on green")
LOUD_BAD: Final = Style.parse("bold white on red")
LOUD_PLAIN: Final = Style.parse("bold black on cyan")
TONES: Final = {"good": GOOD, "plain": PLAIN, "wary": WARY, "bad": BAD}

SHORT: Final = 50  # cells; a narrower panel has short labels
NONE: Final = "–"  # noqa: RUF001 - a dash stands where no number is known
UNPRINTABLE: Final = "·"

ASCII: Final = str.maketrans(
    {
        "─": "-",
        "│": "|",
        "█": "#",
        "░": ".",
        "●": "*",
        "▶": ">",
        "◂": "<",
        "⋯": "~",
        "±": "~",
        "×": "x",  # noqa: RUF001
        "·": ".",
        "—": "-",
        "–": "-",  # noqa: RUF001
        "γ": "g",  # noqa: RUF001
        "σ": "s",  # noqa: RUF001
        "√": "/",
        "µ": "u",
    }
)
UNITS: Final = ((1e6, "M"), (1e9, "B"), (1e12, "T"))
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


def clean(text: str) -> str:
    """`text` on one line without control characters: venues and people type into it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else UNPRINTABLE for c in text)


def piece(text: str, style: Style = PLAIN) -> Segment:
    """A styled piece of a line; `text` may come from outside."""
    return Segment(clean(text), style)


def fit(line: Line, width: int) -> Line:
    """The line, cut or padded to exactly `width` cells."""
    return Segment.adjust_line_length(line, max(0, width))


def split(left: Line, right: Line, width: int) -> Line:
    """`left` and `right` at the two ends of `width` cells; the right end wins."""
    used = Segment.get_line_length(right)
    return [*fit(left, max(0, width - used)), *fit(right, min(used, width))]


def title(name: str, width: int, note: str = "") -> Line:
    """A rule that opens a panel, with its name on the left and a note on the right."""
    head, tail = f"─ {name} ", f" {note} ─" if note else "─"
    rule = "─" * max(0, width - len(head) - len(tail))
    return fit([piece(head, TITLE), piece(rule, QUIET), piece(tail, QUIET)], width)


def columns(cells: Iterable[tuple[str, str, Style]], width: int) -> Line:
    """Label and value pairs in equal columns: labels quiet at the left, values at the right."""
    pairs = list(cells)
    gap = 2 if width >= SHORT else 1
    line: Line = []
    for i, (label, value, style) in enumerate(pairs):
        space = (width + gap) * (i + 1) // len(pairs) - (width + gap) * i // len(pairs) - gap
        line += [
            *split([piece(label, QUIET)], [piece(f" {value}", style)], space),
            piece(" " * gap),
        ]
    return fit(line, width)


def beside(left: list[Line], right: list[Line], left_width: int, width: int) -> list[Line]:
    """Two blocks next to each other, a rule between them, as many lines as the longer has."""
    bar = piece(" │ ", QUIET)
    right_width = width - left_width - 3
    joined = []
    for i in range(max(len(left), len(right))):
        a = left[i] if i < len(left) else []
        b = right[i] if i < len(right) else []
        joined.append([*fit(a, left_width), bar, *fit(b, right_width)])
    return joined


def decimals(step: Decimal) -> int:
    """Digits behind the point that a multiple of `step` needs."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def exact(value: Decimal, digits: int) -> str:
    """Decimal with thousands separators; `digits` are enough for it, or it is rounded."""
    return f"{value:,.{digits}f}" if value.is_finite() else NONE


def signed(value: Decimal, digits: int) -> str:
    """As `exact`, with a sign unless it shows as zero."""
    text = f"{value:+,.{digits}f}" if value.is_finite() else NONE
    return text if any(c in "123456789" for c in text) else text.lstrip("+-")


def number(value: float | None, digits: int, width: int = 12) -> str:
    """A float with thousands separators. Where it would not fit `width` it loses digits behind
    the point, then counts in millions and more, then in powers of ten.
    """
    if value is None or not isfinite(value):
        return NONE
    size = abs(value)
    for fewer in range(digits, -1, -1):
        if size < 1e15 and len(text := f"{value:,.{fewer}f}") <= width:
            return text
    for unit, letter in UNITS:
        if unit <= size < 1e3 * unit and len(text := f"{value / unit:.2f}{letter}") <= width:
            return text
    return f"{value:.2e}"


def bar(share: float, width: int) -> str:
    """A bar of `width` cells, filled to `share` (0 to 1) by eighths of a cell."""
    if not share > 0.0 or width <= 0:
        return " " * max(0, width)
    eighths = max(1, round(min(1.0, share) * width * 8))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def clock(at: int) -> str:
    """UTC time of the day with milliseconds."""
    seconds, rest = divmod(at, NS_PER_S)
    return f"{duration(seconds % 86_400)}.{rest // NS_PER_MS:03d}"


def duration(seconds: float) -> str:
    """hh:mm:ss; hours go on counting."""
    whole = int(seconds) if isfinite(seconds) and 0.0 < seconds < 1e10 else 0
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def plain_ascii(text: str) -> str:
    """`text` for a terminal that shows nothing but ASCII."""
    for eighth in _EIGHTHS[1:4]:
        text = text.replace(eighth, " ")
    for eighth in _EIGHTHS[4:]:
        text = text.replace(eighth, "#")
    return text.translate(ASCII).encode("ascii", "replace").decode()
