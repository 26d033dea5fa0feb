"""What a user can tune, as the core reads it. `modes/settings.py` fills it from YAML.

Units stand last in the names: `bp` is 1e-4 of the price, `k_per_bp` therefore 1/bp.
"""

from typing import Literal

import msgspec


class QuoteParams(msgspec.Struct, frozen=True):
    """Quoting model (MODEL 2): intensity lambda(d) = A exp(-k d), size unit and limits."""

    model: Literal["glft", "avellaneda_stoikov"] = "glft"
    A_per_s: float = 0.9
    k_per_bp: float = 1.6
    sigma_bp_per_sqrt_s: float = 1.4  # first sigma, until the estimator is ready
    xi_bp: float = 0.0  # permanent adverse move per own fill
    horizon_s: float = 60.0  # only for avellaneda_stoikov with horizon_mode "fixed"
    horizon_mode: Literal["tau_star", "fixed"] = "tau_star"
    unit_lots: int = 1  # n0, the order unit
    q_soft_units: float = 20.0 / 3.0
    eta: float = 1.0
    g0: float | None = None  # gamma / k; None calibrates it from q_soft and eta (MODEL 2.3)
    g0_min: float = 1e-5
    g0_max: float = 1.0
    safety_bp: float = 0.1
    adverse_bp: float = 0.0  # expected 30 s adverse selection, added to the least half-spread
    fair_weight: float = 0.5  # 0 = mid, 1 = quantity-weighted mid


class LadderParams(msgspec.Struct, frozen=True):
    """Levels per side (MODEL 11): one size in units for each of 1 to 3 levels."""

    sizes_units: tuple[float, ...] = (1.0,)
    spacing_half_spreads: float = 0.25


class VolatilityParams(msgspec.Struct, frozen=True):
    """EWMA half-lives of MODEL 3.1, in seconds."""

    half_life_fast_s: float = 15.0
    half_life_mid_s: float = 60.0
    half_life_slow_s: float = 600.0
    warmup_s: float = 30.0  # first sigma from YAML until then
    floor_x: float = 0.2  # of the first sigma
    cap_x: float = 25.0


class GammaParams(msgspec.Struct, frozen=True):
    """The gamma valve of MODEL 5.2."""

    volatility_weight: float = 0.7
    release_half_life_s: float = 60.0
    withdraw_multiplier: float = 50.0


class DiffParams(msgspec.Struct, frozen=True):
    """When a resting order is left alone."""

    tolerance_ticks: int = 2
    queue_value_ticks: float = 1.0  # extra tolerance of an order at the head of its queue
    lots_tolerance: float = 0.0  # fraction of the target's size


class EngineParams(msgspec.Struct, frozen=True):
    """When the engine decides though nothing happened to its orders or its book's trust."""

    timer_ms: int = 100
    wake_half_spreads: float = 0.25
    # What the venue does to an order that is amended in place; the gateway declares it.
    # requeue: price and size may change, the place in the queue is lost; reduce: only the size
    # may shrink, and the place is kept.
    amend: Literal["none", "requeue", "reduce"] = "none"


class RiskParams(msgspec.Struct, frozen=True):
    """Thresholds of the breakers (RISK 2, MODEL 8.2) and of the gate (RISK 6).

    Money is in quote currency. `loss_budget` is the loss of a day.
    """

    loss_budget: float
    max_position_lots: int
    max_order_lots: int
    max_open_orders_per_side: int = 10
    loss_1m_fraction: float = 0.10  # widen
    loss_5m_fraction: float = 0.25  # pause
    loss_1h_fraction: float = 0.50  # halt
    loss_day_fraction: float = 1.0  # halt
    loss_pause_s: float = 900.0
    loss_pauses_per_day_max: int = 2
    fill_speed_fraction_1s: float = 0.35
    fill_speed_fraction_5s: float = 0.50
    fill_speed_freeze_s: float = 5.0
    inventory_one_sided: float = 0.80
    inventory_rearm: float = 0.70
    inventory_halt: float = 1.05
    inventory_pause_s: float = 5.0
    depth_bps: float = 10.0
    depth_floor: float = 0.0  # quote currency a side, until the baseline is warm
    depth_both: float = 0.30
    depth_one: float = 0.10
    depth_drop_5s: float = 0.60
    depth_half_life_s: float = 0.5
    baseline_half_life_s: float = 900.0
    baseline_warmup_s: float = 1800.0
    spread_median_x: float = 6.0
    spread_bps: float = 10.0
    spread_hold_s: float = 1.0
    silence_ms: int = 1000  # of the depth stream while another stream moves
    silence_all_ms: int = 3000
    age_ms: int = 500  # feed lag above its lower envelope
    crossed_ms: int = 250
    collar_bps: float = 100.0
    reentry_hold_s: float = 120.0
    reentry_stage_s: float = 300.0


class Params(msgspec.Struct, frozen=True):
    """Everything the engine needs besides the instrument and its fees."""

    quote: QuoteParams
    ladder: LadderParams
    volatility: VolatilityParams
    gamma: GammaParams
    diff: DiffParams
    engine: EngineParams
    risk: RiskParams
