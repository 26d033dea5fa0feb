"""What eyes may see of an engine: a frozen snapshot, never used to decide."""

from decimal import Decimal
from typing import Final

import msgspec

from bot.domain.units import Side

# Levels that quote. REDUCE_ONLY quotes one side, to get out; PAUSED and above place nothing.
QUOTING: Final = frozenset({"ACTIVE", "WIDEN", "ONE_SIDED", "REDUCE_ONLY"})


class OrderView(msgspec.Struct, frozen=True):
    """One own order as the bot believes it."""

    order_id: str
    side: Side
    tick: int
    lots: int
    filled_lots: int
    state: str


class PnlView(msgspec.Struct, frozen=True):
    """The attribution of MODEL 9, in quote currency; costs are positive."""

    total: Decimal
    spread: Decimal
    inventory: Decimal
    maker_fees: Decimal
    rebates: Decimal
    taker_fees: Decimal
    funding: Decimal
    unexplained: Decimal


class View(msgspec.Struct, frozen=True):
    """The engine at one moment.

    Prices are ticks, displayed quantities base currency, sigmas bp per square root of a
    second. `gamma` is risk aversion in 1 / (quote currency x unit), `base_gamma` what it is
    in a calm market; `age_ns` is the lag of the feed above its usual one. `bids` and `asks` are the
    book's first levels, best first, from depth alone.
    """

    now: int
    trusted: bool
    distrust: str
    level: str
    causes: tuple[str, ...]
    bid_tick: int
    ask_tick: int
    fair_ticks: float
    sigma_bp: float
    sigma_fast_bp: float
    sigma_slow_bp: float
    base_gamma: float
    gamma: float
    gamma_multiplier: float
    age_ns: int
    reservation_ticks: float
    half_spread_ticks: float
    position_lots: int
    bids: tuple[tuple[int, float], ...]
    asks: tuple[tuple[int, float], ...]
    orders: tuple[OrderView, ...]
    pnl: PnlView
    obstacles: tuple[str, ...] = ()  # what stands in the way of orders, by name, oldest first
