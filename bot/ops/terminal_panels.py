"""The panels beside and around the book: banner, state, position, risk, vitals, events."""

from decimal import Decimal
from typing import Final

from rich.segment import Segment
from rich.style import Style

from bot.domain.units import BPS, NS_PER_MS
from bot.domain.view import QUOTING, View
from bot.ops.terminal_book import quoting
from bot.ops.terminal_screen import WAITING, Notable, Screen, Vitals
from bot.ops.terminal_text import (
    BAD,
    BOLD,
    BUY,
    GOOD,
    LOUD,
    LOUD_BAD,
    LOUD_GOOD,
    LOUD_PLAIN,
    NONE,
    PLAIN,
    QUIET,
    SELL,
    SHORT,
    TONES,
    WARY,
    Line,
    clean,
    clock,
    columns,
    decimals,
    duration,
    exact,
    fit,
    number,
    piece,
    signed,
    split,
    title,
)

# Currencies whose units are about a dollar, where four digits are enough for one fee.
DOLLARS: Final = ("USDT", "USDC", "FDUSD", "USD", "EUR", "DAI", "TUSD")
MONEY_DIGITS_MAX: Final = 8
KIND_WIDTH: Final = 8


def banner(vitals: Vitals, width: int) -> Line:
    """Whose market this is and whose money: the first line, and the last one to go."""
    if vitals.simulated:
        text, style = "SIMULATED MARKET — no real orders, no real money", LOUD
    elif vitals.orders == "paper":
        text = f"PAPER on {vitals.venue} — real market data, simulated orders"
        style = LOUD_PLAIN
    elif vitals.orders == "testnet":
        text, style = f"TESTNET on {vitals.venue} — real orders, no real money", LOUD_PLAIN
    else:
        text, style = f"LIVE on {vitals.venue} — REAL ORDERS, REAL MONEY", LOUD_BAD
    return [piece(clean(text).center(width)[:width], style)]


def state(screen: Screen, width: int) -> Line:
    """Level and its causes on the left; symbol, run time and UTC on the right."""
    view, vitals = screen.view, screen.vitals
    style = level_style(view)
    loud = {GOOD: LOUD_GOOD, WARY: LOUD}.get(style, LOUD_BAD)
    left = [piece(f" {view.level} ", loud), piece(f" {why(view)}", style)]
    parts = [screen.instrument.symbol, vitals.scenario, duration(vitals.run_s), clock(view.now)]
    if width < 100:
        parts = [screen.instrument.symbol, clock(view.now)]
    right = " · ".join(part for part in parts if part)
    if width < 60:
        return fit(left, width)
    return split(left, [piece(f" {right} UTC ", QUIET)], width)


def why(view: View) -> str:
    """The causes that hold, in words."""
    if view.causes == WAITING and view.obstacles:
        return f"waiting for {', '.join(view.obstacles)}"
    if view.causes == WAITING:
        return "waiting for the first book"
    return ", ".join(view.causes) or "quoting"


def level_style(view: View) -> Style:
    """Green while nothing holds, yellow while it quotes less or waits, red when it is out."""
    if view.level == "ACTIVE":
        return GOOD
    return WARY if view.level in QUOTING or view.causes == WAITING else BAD


def position(screen: Screen, width: int) -> list[Line]:
    """Position in base currency, and against its limit."""
    instrument, lots = screen.instrument, screen.view.position_lots
    digits = decimals(instrument.lot)
    limit = screen.max_position_lots
    share = abs(lots) / limit if limit > 0 else 0.0
    tone = BAD if share >= 1.0 else WARY if share >= 0.8 else PLAIN
    held = f"{signed(instrument.quantity(lots), digits)} {instrument.base}"
    used = f"{number(100.0 * share, 1, 8)} %" if limit > 0 else "no limit"
    of = f"{used} of {exact(instrument.quantity(limit), digits)}"
    if limit > 0 and len(held) + 2 + len(of) <= width:
        used = of
    return [
        title("POSITION", width),
        split([piece(held, BOLD)], [piece(used, tone)], width),
        _two_way(lots, share, tone, width),
    ]


def _two_way(lots: int, share: float, tone: Style, width: int) -> Line:
    """A bar from the middle: short to the left, long to the right."""
    half = max(0, (width - 1) // 2)
    filled = min(half, max(1, round(share * half))) if lots and share > 0.0 else 0
    blank, full = "░" * (half - filled), "█" * filled
    style = tone if tone is not PLAIN else BUY if lots > 0 else SELL
    if lots < 0:
        line = [piece(blank, QUIET), piece(full, style), piece("│"), piece("░" * half, QUIET)]
    else:
        line = [piece("░" * half, QUIET), piece("│"), piece(full, style), piece(blank, QUIET)]
    return fit(line, width)


def money_digits(screen: Screen) -> int:
    """Digits that show one lot's tick, or four where the quote currency is a dollar."""
    if screen.instrument.quote in DOLLARS:
        return 4
    smallest = screen.instrument.tick * screen.instrument.lot
    return min(MONEY_DIGITS_MAX, max(4, decimals(smallest)))


def profit(screen: Screen, width: int) -> list[Line]:
    """The attribution of MODEL 9 with the signs that add up to the total."""
    pnl, digits = screen.view.pnl, money_digits(screen)

    def amount(name: str, value: Decimal) -> tuple[str, str, Style]:
        style = BAD if name == "unexplained" and value else PLAIN
        return name, signed(value, digits), style

    total = piece(signed(pnl.total, digits), GOOD if pnl.total > 0 else BAD if pnl.total else BOLD)
    fees = -(pnl.maker_fees + pnl.taker_fees)
    return [
        split([piece(f"PnL {screen.instrument.quote}", QUIET)], [total], width),
        columns([amount("spread", pnl.spread), amount("inventory", pnl.inventory)], width),
        columns([amount("fees", fees), amount("rebates", pnl.rebates)], width),
        columns([amount("funding", pnl.funding), amount("unexplained", pnl.unexplained)], width),
    ]


def risk(screen: Screen, width: int) -> list[Line]:
    """Gamma and its parts, the volatility behind it, and what both make of the spread."""
    view = screen.view
    half = number(_bp(view.half_spread_ticks, view), 3) if quoting(view) else NONE
    shift = view.reservation_ticks - view.fair_ticks
    skew = number(_bp(shift, view), 3) if quoting(view) else NONE
    trust = ("trusted", GOOD) if view.trusted else (f"not trusted: {view.distrust or NONE}", BAD)
    multiplier = view.gamma_multiplier
    tone = PLAIN if multiplier < 1.5 else WARY if multiplier < 10.0 else BAD
    short = width < SHORT
    state_of = [
        split([piece("level", QUIET)], [piece(view.level, level_style(view))], width),
        split([piece("cause", QUIET)], [piece(f" {why(view)}", level_style(view))], width),
    ]
    gamma = [
        piece(f"{view.gamma:.3g}", BOLD),
        piece(f" = {view.base_gamma:.3g} × "),  # noqa: RUF001
        piece(number(multiplier, 2, 9), tone),
    ]
    sigmas = [
        piece(f" {name} " if style is QUIET else f"{name:>5}", style)
        for name, style in (
            ("fast", QUIET),
            (number(view.sigma_fast_bp, 3, 5), PLAIN),
            ("slow", QUIET),
            (number(view.sigma_slow_bp, 3, 5), PLAIN),
            ("used", QUIET),
            (number(view.sigma_bp, 3, 5), BOLD),
        )
    ]
    return [
        title("RISK", width),
        *([] if short else state_of),  # the second line of the screen says it too
        split([piece("book", QUIET)], [piece(*trust)], width),
        split([piece("γ base×M" if short else "γ = base × M", QUIET)], gamma, width),  # noqa: RUF001
        split([piece("σ" if short else "σ bp/√s", QUIET)], sigmas, width),  # noqa: RUF001
        columns(
            [("half bp" if short else "half-spread bp", half, PLAIN), ("skew bp", skew, PLAIN)],
            width,
        ),
    ]


def _bp(ticks: float, view: View) -> float | None:
    return ticks / view.fair_ticks / BPS if view.fair_ticks > 0.0 else None


def vitals(screen: Screen, width: int) -> list[Line]:
    """Latencies, rates and counts of the run."""
    v = screen.vitals
    excess = screen.view.age_ns / NS_PER_MS  # above the feed's usual lag

    def count(name: str, n: int, bad: bool = False) -> tuple[str, str, Style]:
        return name, f"{n:,}", WARY if bad and n else PLAIN

    def value(name: str, x: float | None, digits: int, unit: str) -> tuple[str, str, Style]:
        text = number(x, digits, 9)
        return name, text if text == NONE else f"{text} {unit}", PLAIN

    short = width < SHORT
    uptime = number(100.0 * v.two_sided, 0 if short else 1, 7)
    rows = [
        [value("feed lag", v.feed_lag_ms, 1, "ms"), value("excess", excess, 1, "ms")],
        [value("decide p50", v.decide_p50_us, 0, "µs"), value("p99", v.decide_p99_us, 0, "µs")],
        [value("loop p99", v.loop_lag_p99_ms, 1, "ms"), value("frames", v.frames_per_s, 0, "/s")],
        [
            count("new" if short else "placed", v.placed),
            count("cxl" if short else "cancelled", v.cancelled),
            count("fills", v.fills),
        ],
        [
            count("feeds", v.connections),
            count("lost" if short else "reconnects", v.reconnects, bad=True),
            count("gaps", v.gaps, bad=True),
        ],
        [
            ("both" if short else "two-sided", f"{uptime} %", PLAIN),
            count("resync" if short else "resyncs", v.resyncs, bad=True),
            count("halts", v.halts, bad=True),
        ],
    ]
    return [title("VITALS", width), *(columns(row, width) for row in rows)]


def events(screen: Screen, width: int, height: int) -> list[Line]:
    """The newest events that fit, the newest at the bottom."""
    if height < 2:
        return []
    newest = screen.events[-(height - 1) :]
    lines = [title("EVENTS", width), *(_event(event, width) for event in newest)]
    return lines + [fit([], width)] * (height - len(lines))


def _event(event: Notable, width: int) -> Line:
    times = f" ×{event.times:,}" if event.times > 1 else ""  # noqa: RUF001
    kind = clean(event.kind)[:KIND_WIDTH]
    line: list[Segment] = [
        piece(f"{clock(event.at)}  ", QUIET),
        piece(f"{kind:<{KIND_WIDTH}}  ", TONES[event.tone]),
        piece(event.text, TONES[event.tone] if event.tone == "bad" else PLAIN),
    ]
    return fit([*split(line, [piece(times, QUIET)], width)] if times else line, width)
