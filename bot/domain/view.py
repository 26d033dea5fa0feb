"""What eyes may see of an engine: a frozen snapshot, never used to decide."""

from decimal import Decimal

import msgspec

from bot.domain.units import Side


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
    """The engine at one moment."""

    now: int
    trusted: bool
    distrust: str
    level: str
    causes: tuple[str, ...]
    bid_tick: int
    ask_tick: int
    fair_ticks: float
    sigma_bp: float
    gamma_multiplier: float
    reservation_ticks: float
    position_lots: int
    orders: tuple[OrderView, ...]
    pnl: PnlView
