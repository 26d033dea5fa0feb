"""The book panel: asks above, bids below, own orders at their level, the fair price between."""

from collections.abc import Sequence
from math import isfinite
from typing import Final, NamedTuple

from rich.style import Style

from bot.domain.units import BPS, Side
from bot.domain.view import QUOTING, OrderView, View
from bot.ops.terminal_screen import WAITING, Screen
from bot.ops.terminal_text import (
    BAD,
    BUY,
    FAIR,
    LOUD_BAD,
    NONE,
    OWN,
    QUIET,
    RESERVATION,
    SELL,
    WARY,
    Line,
    bar,
    decimals,
    exact,
    fit,
    number,
    piece,
    split,
    title,
)

FIXED_LINES: Final = 4  # title, names of the columns, fair price, reservation price
LEVELS_MIN: Final = 2
PRICE_WIDTH: Final = (9, 22)
STATES: Final = {
    "LIVE": "",
    "PARTIALLY_FILLED": "",
    "PENDING_NEW": "new",
    "PENDING_CANCEL": "cxl",
    "UNKNOWN": "unk",
}


class Rung(NamedTuple):
    """One row of the ladder; `quantity` is None where the book shows nothing."""

    tick: int
    quantity: float | None
    orders: tuple[OrderView, ...]


class Gap(NamedTuple):
    """Levels left out before own orders further away; `orders` of them, `shown` below."""

    orders: int
    shown: int


class Columns(NamedTuple):
    """Widths in cells."""

    price: int
    quantity: int
    bar: int
    own: int


def book(screen: Screen, width: int, height: int) -> list[Line]:
    """The panel as `height` lines of `width` cells. The touch never moves from its rows."""
    view = screen.view
    n = max(LEVELS_MIN, (height - FIXED_LINES) // 2)
    asks = rungs(view.asks, view.orders, Side.SELL, n)
    bids = rungs(view.bids, view.orders, Side.BUY, n)
    shown = [row for row in (*asks, *bids) if isinstance(row, Rung)]
    cols = _columns(screen, shown, width)
    most = max((q for r in shown if (q := r.quantity) is not None and isfinite(q)), default=0.0)
    mark = _nearest(shown, view) if quoting(view) else None

    def drawn(rows: list[Rung | Gap], side: Side) -> list[Line]:
        lines = []
        for row in rows:
            if isinstance(row, Gap):
                lines.append(fit(_gap(row), width))
                continue
            style = BUY if side is Side.BUY else SELL
            if not view.trusted or _is_gone(row.tick, side, view):
                style = QUIET
            lines.append(fit(_rung(screen, row, cols, most, mark, style), width))
        return lines

    empty = [fit([], width)]
    above, below = drawn(asks, Side.SELL), drawn(bids, Side.BUY)
    lines = [
        title("BOOK", width, _spread(screen) if view.trusted else ""),
        fit(_head(screen, cols), width),
        *empty * (n - len(above)),
        *reversed(above),
        *_middle(screen, cols, width),
        *below,
        *empty * (n - len(below)),
    ]
    return [*lines, *empty * (height - len(lines))][:height]


def quoting(view: View) -> bool:
    """Whether the view's reservation price and half-spread are of now; else they are history."""
    return view.trusted and view.level in QUOTING and view.half_spread_ticks != 0.0


def rungs(
    levels: Sequence[tuple[int, float]], orders: Sequence[OrderView], side: Side, n: int
) -> list[Rung | Gap]:
    """At most `n` rows of one side, best first.

    Own orders beyond the last level follow behind a gap, because nobody knows here what lies
    between. They may take up to half of the rows.
    """
    own: dict[int, list[OrderView]] = {}
    for order in orders:
        if order.side is side:
            own.setdefault(order.tick, []).append(order)
    # As many levels as leave room for own orders beyond them, but no fewer than half the rows.
    for count in range(min(n, len(levels)), -1, -1):
        inner = dict[int, float | None](levels[:count])
        last = levels[count - 1][0] if count else None
        far = []
        for tick in own:
            if last is not None and (tick - last) * side >= 0:
                inner.setdefault(tick, None)
            else:
                far.append(tick)
        rows = len(inner) + (1 + len(far) if far else 0)
        if rows <= n or count <= n // 2:
            break
    far.sort(reverse=side is Side.BUY)
    near = sorted(inner, reverse=side is Side.BUY)
    if far or any(tick in own for tick in near[n:]):
        # One row is the gap's; own orders that fall out for it lie behind it, too.
        late = [tick for tick in near[n - 1 :] if tick in own]
        near, far = near[: n - 1], [*late, *far]
    room = n - len(near) - 1
    found: list[Rung | Gap] = [Rung(t, inner[t], tuple(own.get(t, ()))) for t in near[:n]]
    if far:
        found.append(Gap(sum(len(own[t]) for t in far), sum(len(own[t]) for t in far[:room])))
        found += [Rung(t, None, tuple(own[t])) for t in far[:room]]
    return found


def _columns(screen: Screen, shown: Sequence[Rung], width: int) -> Columns:
    digits = decimals(screen.instrument.tick)
    longest = max((len(exact(screen.instrument.price(r.tick), digits)) for r in shown), default=0)
    price = min(max(longest + 1, PRICE_WIDTH[0]), PRICE_WIDTH[1])  # the fair price has one more
    own = 16 if width >= 50 else 12
    quantity = 11 if width >= 50 else 9
    return Columns(price, quantity, max(0, min(26, width - price - quantity - own - 6)), own)


def _head(screen: Screen, cols: Columns) -> Line:
    names = f"{'price':>{cols.price - 1}}  {screen.instrument.base[:8]:>{cols.quantity}}"
    return [piece(f"  {names} {'':{cols.bar}} {'own':>{cols.own}}", QUIET)]


def _rung(
    screen: Screen, rung: Rung, cols: Columns, most: float, mark: int | None, style: Style
) -> Line:
    instrument = screen.instrument
    price = exact(instrument.price(rung.tick), decimals(instrument.tick))
    quantity = NONE
    if rung.quantity is not None:
        quantity = number(rung.quantity, decimals(instrument.lot), cols.quantity)
    share = rung.quantity / most if rung.quantity is not None and most > 0.0 else 0.0
    states = {STATES.get(o.state, "unk") for o in rung.orders}
    own_style = BAD if "unk" in states else OWN if states == {""} else WARY
    return [
        piece("▶" if rung.orders else " ", OWN),
        piece("◂" if rung.tick == mark else " ", RESERVATION),
        # One more cell, where the fair price has its extra digit.
        piece(f"{price:>{cols.price - 1}} ", OWN if rung.orders else style),
        piece(f" {quantity:>{cols.quantity}} "),
        piece(bar(share, cols.bar), style),
        piece(f" {_own(screen, rung.orders, cols.own):>{cols.own}}", own_style),
    ]


def _own(screen: Screen, orders: Sequence[OrderView], width: int) -> str:
    """Filled part and size of the own orders at one level, and what they wait for."""
    if not orders:
        return ""
    instrument = screen.instrument
    digits = decimals(instrument.lot)
    size = exact(instrument.quantity(sum(o.lots for o in orders)), digits)
    filled = sum(o.filled_lots for o in orders)
    state = next((tag for o in orders if (tag := STATES.get(o.state, "unk"))), "")
    text = f"{exact(instrument.quantity(filled), digits)}/{size}" if filled else size
    if len(orders) > 1:
        text = f"{len(orders)} = {text}"
    for wanted in (f"{state} {text}".strip(), text, f"{state} {size}".strip(), size):
        if len(wanted) <= width:
            return wanted
    return f"{state} own".strip()


def _is_gone(tick: int, side: Side, view: View) -> bool:
    """The venue's ticker, which is ahead of the depth stream, has passed this level."""
    return tick > view.bid_tick if side is Side.BUY else tick < view.ask_tick


def _ticker(screen: Screen, width: int) -> str:
    """The touch, where it is not that of the levels shown."""
    view, instrument = screen.view, screen.instrument
    if not view.bids or not view.asks:
        return ""
    if (view.bids[0][0], view.asks[0][0]) == (view.bid_tick, view.ask_tick):
        return ""
    if width < 55:
        return "by ticker "
    digits = decimals(instrument.tick)
    bid, ask = (exact(instrument.price(t), digits) for t in (view.bid_tick, view.ask_tick))
    return f"ticker {bid} / {ask}  "


def _gap(gap: Gap) -> Line:
    noun = "own order" if gap.orders == 1 else "own orders"
    hidden = gap.orders - gap.shown
    more = f", {hidden} not shown" if hidden else ""
    return [piece("▶ ", OWN), piece(f"⋯ {gap.orders} {noun} further out{more}", QUIET)]


def _middle(screen: Screen, cols: Columns, width: int) -> list[Line]:
    """Fair price and reservation price, or why there are none."""
    view = screen.view
    if not view.trusted:
        if view.causes == WAITING:
            return [fit([piece("  waiting for the first book", WARY)], width), fit([], width)]
        text = f" BOOK NOT TRUSTED: {view.distrust or 'unknown'} "
        return [
            fit([piece(text, LOUD_BAD)], width),
            fit([piece(" what stands here may be wrong; no quotes", QUIET)], width),
        ]
    shift = view.reservation_ticks - view.fair_ticks
    fair = _between(screen, view.fair_ticks, cols)
    lines = [
        split(
            [piece(fair, FAIR)],
            [piece(_ticker(screen, width), QUIET), piece("fair price", FAIR)],
            width,
        )
    ]
    if not quoting(view):
        none = f"  {NONE:>{cols.price}}"
        return [*lines, split([piece(none, QUIET)], [piece("no reservation price", QUIET)], width)]
    reservation = _between(screen, view.reservation_ticks, cols)
    note = f"{number(shift, 1, 9)} ticks " if width >= 40 else ""
    right = [piece(note, QUIET), piece("reservation", RESERVATION)]
    return [*lines, split([piece(reservation, RESERVATION)], right, width)]


def _between(screen: Screen, ticks: float, cols: Columns) -> str:
    """A price between ticks, with one digit more than a tick."""
    tick = screen.instrument.tick
    text = number(ticks * float(tick), decimals(tick) + 1, cols.price)
    return f"  {text:>{cols.price}}"


def _spread(screen: Screen) -> str:
    view, instrument = screen.view, screen.instrument
    ticks = view.ask_tick - view.bid_tick
    middle = 0.5 * (view.ask_tick + view.bid_tick)
    bp = number(ticks / middle / BPS, 2) if middle > 0.0 else NONE
    return f"spread {exact(instrument.price(ticks), decimals(instrument.tick))} · {bp} bp"


def _nearest(shown: Sequence[Rung], view: View) -> int | None:
    """The level next to the reservation price, where that lies among the levels."""
    reservation = view.reservation_ticks
    if view.bid_tick < reservation < view.ask_tick:
        return None
    ticks = [rung.tick for rung in shown if rung.quantity is not None]
    if not ticks or not min(ticks) <= reservation <= max(ticks):
        return None
    return min(ticks, key=lambda tick: abs(tick - reservation))
