"""From a model's terms to orders: levels, clamps and the one rounding (MODEL 0 and 11).

Distances and prices are in ticks, positions in order units, sizes in lots.
"""

from collections.abc import Iterable
from math import ceil, floor

import msgspec

from bot.core.quoting import Terms
from bot.domain.instrument import Instrument
from bot.domain.params import LadderParams
from bot.domain.units import Side


class Target(msgspec.Struct, frozen=True, gc=False):
    """An order we want to rest: `level` 0 is the innermost of its side."""

    side: Side
    level: int
    tick: int
    lots: int


class LadderRules(msgspec.Struct, frozen=True):
    """What does not change from one ladder to the next; see `ladder_rules`.

    `levels` has, per level, the units that stand before its own middle (N_{i-1} + n_i/2)
    and its size in lots before rounding. `min_tick_lots` is the least price x quantity in
    whole ticks x lots.
    """

    levels: tuple[tuple[float, float], ...]
    spacing_half_spreads: float
    min_lots: int
    min_tick_lots: int


def ladder_rules(instrument: Instrument, params: LadderParams, unit_lots: int) -> LadderRules:
    """The rules of one (linear) instrument with order units of `unit_lots` lots.

    The least notional becomes a whole number of ticks x lots here, in exact arithmetic, so
    that an order of exactly that notional is never lost to a rounding error.
    """
    if unit_lots < 1 or not params.sizes_units or min(params.sizes_units) <= 0.0:
        raise ValueError(f"need sizes above 0, got {params.sizes_units} x {unit_lots} lots")
    return LadderRules(
        levels=tuple(_levels(params.sizes_units, unit_lots)),
        spacing_half_spreads=params.spacing_half_spreads,
        min_lots=max(1, instrument.min_qty_lots),
        min_tick_lots=ceil(instrument.min_notional / (instrument.tick * instrument.lot)),
    )


def ladder(
    rules: LadderRules,
    terms: Terms,
    *,
    fair: float,
    q: float,
    best_bid: int,
    best_ask: int,
    min_half: float,
    max_distance: float,
    size_factor: float = 1.0,
    spread_factor: float = 1.0,
    bids: bool = True,
    asks: bool = True,
) -> list[Target]:
    """Orders to rest now: bids from the inside out, then asks from the inside out.

    Level i stands where the optimum will be once the inner levels have traded (MODEL 11):
    delta_i = half + skew (q + N_{i-1} + n_i/2) for bids, mirrored for asks. Then the clamps
    of MODEL 0 in their order: `min_half` from `fair` on each side; bids down and asks up to
    a tick, post-only against the touch; sides without permission; lots rounded down, dropped
    when below the instrument's least quantity or notional. A level at `max_distance` from
    `fair` or beyond is dropped (MODEL 5.3).

    `terms`, `fair`, `min_half` and `max_distance` are in ticks; `min_half` is at least half
    a tick, which keeps bids below asks whatever the model says. `spread_factor`
    (>= 1) widens `half` and never the skew (MODEL 5.2); a negative half stays as it is.
    `size_factor`, in (0, 1], scales the lots and not the distances: smaller is a
    precaution, and a precaution must not quote closer.
    """
    assert 0.0 < size_factor <= 1.0 <= spread_factor
    assert min_half >= 0.5, min_half
    half = terms.half * spread_factor if terms.half > 0.0 else terms.half
    skew = terms.skew
    shift = skew * q  # fair minus the reservation price
    inner = half + skew * rules.levels[0][0]
    bid_distance = max(inner + shift, min_half)
    ask_distance = max(inner - shift, min_half)
    spacing = max(1.0, rules.spacing_half_spreads * max(inner, min_half))
    targets: list[Target] = []
    # Asks are bids in mirrored prices: every tick and limit changes its sign.
    if bids:
        nearest = min(fair - bid_distance, best_ask - 1)
        anchor = fair - half - shift
        farthest = fair - max_distance
        _rest(targets, rules, Side.BUY, anchor, skew, nearest, farthest, spacing, size_factor)
    if asks:
        nearest = min(-fair - ask_distance, -best_bid - 1)
        anchor = -fair - half + shift
        farthest = -fair - max_distance
        _rest(targets, rules, Side.SELL, anchor, skew, nearest, farthest, spacing, size_factor)
    return targets


def _levels(sizes: Iterable[float], unit_lots: int) -> Iterable[tuple[float, float]]:
    before = 0.0
    for size in sizes:
        # Sizes are decimal fractions that floats miss by one part in 1e16: 0.29 x 100 lots
        # are 29 lots, and rounding down must not make them 28.
        yield before + 0.5 * size, size * unit_lots * (1.0 + 1e-12)
        before += size


def _rest(
    targets: list[Target],
    rules: LadderRules,
    side: Side,
    anchor: float,
    skew: float,
    nearest: float,
    farthest: float,
    spacing: float,
    size_factor: float,
) -> None:
    """Append one side's levels; prices are mirrored for asks.

    `anchor` is the price without own size, `nearest` what no level may exceed, `farthest`
    what every level must exceed.
    """
    buying = side is Side.BUY
    for level, (units, full_lots) in enumerate(rules.levels):
        price = anchor - skew * units
        if price > nearest:
            price = nearest
        if price <= farthest:
            return
        mirrored = floor(price)
        tick = mirrored if buying else -mirrored
        if mirrored <= farthest or tick < 1:
            return
        lots = int(full_lots * size_factor)
        if lots >= rules.min_lots and tick * lots >= rules.min_tick_lots:
            targets.append(Target(side, level, tick, lots))
        nearest = mirrored - spacing
