"""What must hold between keys, and sizes in whole lots."""

from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from functools import reduce
from typing import Any, Final

import msgspec

from bot.modes.sections import Settings

# (lesser, may be equal, greater)
ORDERED: Final = (
    ("quote.g0_min", False, "quote.g0_max"),
    ("quote.g0_min", True, "quote.g0"),
    ("quote.g0", True, "quote.g0_max"),
    ("volatility.half_life_fast_s", False, "volatility.half_life_mid_s"),
    ("volatility.half_life_mid_s", False, "volatility.half_life_slow_s"),
    ("volatility.floor_x", False, "volatility.cap_x"),
    ("quote.unit_qty", True, "risk.max_order_qty"),
    ("risk.max_order_qty", True, "risk.max_position_qty"),
    ("risk.loss_1m_fraction", True, "risk.loss_5m_fraction"),
    ("risk.loss_5m_fraction", True, "risk.loss_1h_fraction"),
    ("risk.loss_1h_fraction", True, "risk.loss_day_fraction"),
    ("risk.fill_speed_fraction_1s", True, "risk.fill_speed_fraction_5s"),
    ("risk.inventory_rearm", False, "risk.inventory_one_sided"),
    ("risk.inventory_one_sided", False, "risk.inventory_halt"),
    ("risk.depth_one", False, "risk.depth_both"),
    ("risk.depth_half_life_s", False, "risk.baseline_half_life_s"),
    ("risk.silence_ms", True, "risk.silence_all_ms"),
    ("paper.entry_latency_ms_min", True, "paper.entry_latency_ms_max"),
    # A request that nobody waits for any more may not still be obeyed.
    ("execution.recv_window_ms", True, "execution.request_timeout_ms"),
    ("execution.in_flight_ms", True, "execution.open_orders_ms"),
    ("execution.open_orders_ms", True, "execution.position_ms"),
)
SIGNS_OF_LIFE: Final = 3
SIZES: Final = ("quote.unit_qty", "risk.max_order_qty", "risk.max_position_qty")


class Impossible(msgspec.Struct, frozen=True):
    """Keys that do not fit together; `reason` says what would be right, without a stop."""

    keys: tuple[str, ...]
    reason: str


def impossible(settings: Settings) -> Impossible | None:
    """Find the first relation between keys that does not hold."""
    return (
        _not_whole(settings)
        or _unordered(settings)
        or _ladder(settings)
        or _limits(settings)
        or _dead_man(settings)
    )


def whole_lots(quantity: Decimal, lot: Decimal) -> int | None:
    """Convert a quantity to lots exactly; None when it is not a positive whole number of them."""
    # Wide enough for the largest quantity over the smallest lot that a config may hold.
    with localcontext(prec=64):
        lots = int(quantity // lot)
        return lots if lots >= 1 and quantity % lot == 0 else None


def value_of(settings: Settings, key: str) -> Any:
    """Read a dotted key."""
    return reduce(getattr, key.split("."), settings)


def plain(number: Decimal) -> str:
    """Write a Decimal without an exponent and without idle zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _not_whole(settings: Settings) -> Impossible | None:
    lot = settings.instrument.lot
    least = settings.instrument.min_qty or lot
    sizes: list[tuple[str, Decimal]] = [(key, value_of(settings, key)) for key in SIZES]
    for key, quantity in [("instrument.min_qty", least), *sizes]:
        if whole_lots(quantity, lot) is None:
            with localcontext(prec=64):
                lots = max(Decimal(1), (quantity / lot).to_integral_value(ROUND_HALF_EVEN))
                nearest = plain(lots * lot)
            return Impossible(
                (key, "instrument.lot"),
                f"{key} is {plain(quantity)}, which is not a whole number of lots of {plain(lot)}, "
                f"the nearest right value is {nearest}",
            )
    return None


def _unordered(settings: Settings) -> Impossible | None:
    for lesser, may_equal, greater in ORDERED:
        low, high = value_of(settings, lesser), value_of(settings, greater)
        if low is None or high is None or low < high or (may_equal and low == high):
            continue
        relation = "at most" if may_equal else "less than"
        return Impossible(
            (lesser, greater),
            f"{lesser} ({_text(low)}) must be {relation} {greater} ({_text(high)})",
        )
    return None


def _ladder(settings: Settings) -> Impossible | None:
    unit, risk = settings.quote.unit_qty, settings.risk
    sizes = [Decimal(str(size)) * unit for size in settings.ladder.sizes_units]
    largest, smallest, side = max(sizes), min(sizes), sum(sizes, Decimal(0))
    least = settings.instrument.min_qty or settings.instrument.lot
    keys = ("ladder.sizes_units", "quote.unit_qty")
    if largest > risk.max_order_qty:
        return Impossible(
            (*keys, "risk.max_order_qty"),
            f"ladder.sizes_units makes an order of {plain(largest)}, "
            f"but risk.max_order_qty allows at most {plain(risk.max_order_qty)}",
        )
    if side > risk.max_position_qty:
        return Impossible(
            (*keys, "risk.max_position_qty"),
            f"ladder.sizes_units adds up to {plain(side)} on a side, "
            f"but risk.max_position_qty allows at most {plain(risk.max_position_qty)}",
        )
    if smallest < least:
        return Impossible(
            keys,
            f"ladder.sizes_units makes an order of {plain(smallest)}, "
            f"but the smallest order of {settings.symbol} is {plain(least)}",
        )
    if len(sizes) > risk.max_open_orders_per_side:
        return Impossible(
            ("ladder.sizes_units", "risk.max_open_orders_per_side"),
            f"ladder.sizes_units has {len(sizes)} levels, but risk.max_open_orders_per_side "
            f"({risk.max_open_orders_per_side}) must be at least as many",
        )
    return None


def _limits(settings: Settings) -> Impossible | None:
    quote, risk, fees = settings.quote, settings.risk, settings.fees
    if quote.q_soft_units is not None:
        q_max = risk.max_position_qty / quote.unit_qty
        if Decimal(str(quote.q_soft_units)) > q_max:
            most = q_max.quantize(Decimal("0.0001"), ROUND_FLOOR)
            return Impossible(
                ("quote.q_soft_units", "risk.max_position_qty", "quote.unit_qty"),
                f"quote.q_soft_units ({quote.q_soft_units}) must be at most "
                f"risk.max_position_qty / quote.unit_qty ({plain(most)})",
            )
    least = fees.maker_bp + Decimal(str(quote.safety_bp)) + Decimal(str(quote.adverse_bp))
    if Decimal(str(risk.collar_bps)) <= least:
        return Impossible(
            ("risk.collar_bps", "fees.maker_bp", "quote.safety_bp", "quote.adverse_bp"),
            f"risk.collar_bps ({risk.collar_bps}) must be greater than the least half-spread, "
            "fees.maker_bp + quote.safety_bp + quote.adverse_bp "
            f"({plain(least)})",
        )
    return None


def _dead_man(settings: Settings) -> Impossible | None:
    """The switch must outlast two signs of life that were lost and the one that arrives."""
    execution = settings.execution
    patience_s, least_ms = execution.dead_man_s, SIGNS_OF_LIFE * execution.request_timeout_ms
    if patience_s * 1_000 >= least_ms:
        return None
    return Impossible(
        ("execution.dead_man_s", "execution.request_timeout_ms"),
        f"execution.dead_man_s ({patience_s}) must be at least {SIGNS_OF_LIFE} times "
        f"execution.request_timeout_ms ({least_ms / 1_000:g} s), as two may get lost",
    )


def _text(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
