"""What a config may say: one pydantic model a section, every key with its meaning and range.

Names and defaults are those of `domain/params.py`; only sizes differ, which a user
writes in base currency (`…_qty`) and the core counts in lots. The docstring beneath a
key is its description in the editor's schema and in refusals.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bot.domain.params import (
    DiffParams,
    EngineParams,
    GammaParams,
    LadderParams,
    QuoteParams,
    RiskParams,
    VolatilityParams,
)
from bot.modes.yamlsource import Number

_QUOTE = QuoteParams()
_LADDER = LadderParams()
_VOLATILITY = VolatilityParams()
_GAMMA = GammaParams()
_DIFF = DiffParams()
_ENGINE = EngineParams()
_RISK = RiskParams(loss_budget=0.0, max_position_lots=0, max_order_lots=0)


def _exact(value: object) -> object:
    """Make a Decimal of the digits that were written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PydanticCustomError("exact", "Input should be a number")
    try:
        number = Decimal(value.text if isinstance(value, Number) else str(value))
    except InvalidOperation:
        raise PydanticCustomError("exact", "Input should be a number") from None
    if not number.is_finite():
        raise PydanticCustomError("exact", "Input should be a finite number")
    return number


def _spelled(value: object) -> object:
    """Accept a symbol as the venue spells it: capitals, digits, `_` and `-`."""
    if not isinstance(value, str):
        raise PydanticCustomError("symbol", "Input should be text: put it in quotes")
    right = "".join(c for c in value.upper() if c.isalnum() or c in "_-")
    if value != right or not right:
        near = right or "BTCUSDT"
        raise PydanticCustomError("symbol", "Input should be spelled {near}", {"near": near})
    return value


# The caps keep a slip of the keyboard from overflowing nanoseconds or lots.
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=1e12)]
Unsigned = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1e12)]
Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
AboveOne = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=1, le=1e12)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]


def _decimal_schema(**bounds: int) -> WithJsonSchema:
    text = {"type": "string", "pattern": r"^[+-]?\d+(\.\d+)?$"}
    return WithJsonSchema({"anyOf": [{"type": "number", **bounds}, text]})


_DIGITS = 18
_TRILLION = 10**12
Exact = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(gt=0, le=_TRILLION, decimal_places=_DIGITS),
    _decimal_schema(exclusiveMinimum=0, maximum=_TRILLION),
]
ExactOrZero = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=0, le=_TRILLION, decimal_places=_DIGITS),
    _decimal_schema(minimum=0, maximum=_TRILLION),
]
# 100 bp is 1 %: no venue's rate is beyond it.
FeeBp = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(ge=-100, le=100, decimal_places=_DIGITS),
    _decimal_schema(minimum=-100, maximum=100),
]
Symbol = Annotated[str, BeforeValidator(_spelled)]


def _path_of_secret(value: object) -> object:
    """Accept the name of a file, and never what would stand inside."""
    # Keys of venues are 64 letters and digits, the longest are PEM; paths have a separator.
    if isinstance(value, str) and (SECRET_LIKE.fullmatch(value) or "PRIVATE KEY" in value):
        raise PydanticCustomError("path", "Input should name a file that holds it")
    return value


SECRET_LIKE = re.compile(r"[A-Za-z0-9+=]{32,}")
SecretPath = Annotated[str, BeforeValidator(_path_of_secret), Field(min_length=1)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
RecvWindow = Annotated[int, Field(strict=True, ge=1, le=2_000)]
DeadMan = Annotated[int, Field(strict=True, ge=10, le=600)]


class Section(BaseModel):
    """Strict, frozen, and described by the docstrings of its keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )


class InstrumentSection(Section):
    """Filters of the symbol; a bundled table knows those of the common ones."""

    base: str
    """Base currency, the one that sizes are in."""
    quote: str
    """Quote currency, the one that prices and money are in."""
    tick: Exact
    """Price step in quote currency, in quotes so that its decimals are kept."""
    lot: Exact
    """Quantity step in base currency (contracts on binance-coinm)."""
    min_qty: Exact | None = None
    """Smallest order in base currency; null is one lot."""
    min_notional: ExactOrZero = Decimal(0)
    """Smallest order in quote currency."""


class FeesSection(Section):
    """Fee rates in basis points of notional; the venue's first tier unless given."""

    maker_bp: FeeBp
    """Maker fee, bp; negative is a rebate."""
    taker_bp: FeeBp
    """Taker fee, bp."""


class QuoteSection(Section):
    """The quoting model: fill intensity A exp(-k d), order unit, risk aversion."""

    model: Literal["glft", "avellaneda_stoikov"] = _QUOTE.model
    """Which closed form sets the quotes."""
    A_per_s: Positive = _QUOTE.A_per_s
    """Fills of one unit a second at the fair price; given, not estimated."""
    k_per_bp: Positive = _QUOTE.k_per_bp
    """Decay of the fill intensity with distance, 1/bp; given, not estimated."""
    sigma_bp_per_sqrt_s: Positive = _QUOTE.sigma_bp_per_sqrt_s
    """First volatility, bp per square root of a second, until it is measured."""
    xi_bp: Unsigned = _QUOTE.xi_bp
    """Permanent adverse move of the fair price per own fill, bp."""
    horizon_s: Positive = _QUOTE.horizon_s
    """Horizon of avellaneda_stoikov with horizon_mode fixed, s."""
    horizon_mode: Literal["tau_star", "fixed"] = _QUOTE.horizon_mode
    """tau_star is the constant horizon at which avellaneda_stoikov equals glft."""
    unit_qty: Exact
    """Order unit in base currency (contracts on binance-coinm), a whole number of lots."""
    q_soft_units: Positive | None = None
    """Units at which the skew is eta half-spreads; null is a third of the maximum position."""
    eta: Positive = _QUOTE.eta
    """Skew at q_soft_units, in half-spreads."""
    g0: Positive | None = _QUOTE.g0
    """Dimensionless risk aversion gamma / k; null derives it from q_soft_units and eta."""
    g0_min: Positive = _QUOTE.g0_min
    """Least risk aversion that may be derived."""
    g0_max: Positive = _QUOTE.g0_max
    """Greatest risk aversion that may be derived."""
    safety_bp: Unsigned = _QUOTE.safety_bp
    """Least gain per fill beyond fees and adverse selection, bp."""
    adverse_bp: Unsigned = _QUOTE.adverse_bp
    """Expected adverse selection within 30 s of a fill, bp, part of the least half-spread."""
    fair_weight: Share = _QUOTE.fair_weight
    """Fair price: 0 is the mid, 1 the mid weighted by displayed quantity."""


class LadderSection(Section):
    """Orders per side."""

    sizes_units: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=3)] = (
        _LADDER.sizes_units
    )
    """Size of each level in units, innermost first; one to three levels."""
    spacing_half_spreads: Positive = _LADDER.spacing_half_spreads
    """Least distance between levels, in half-spreads."""


class VolatilitySection(Section):
    """Estimators of volatility: three exponential averages."""

    half_life_fast_s: Positive = _VOLATILITY.half_life_fast_s
    """Half-life of the fast average, s."""
    half_life_mid_s: Positive = _VOLATILITY.half_life_mid_s
    """Half-life of the middle average, s."""
    half_life_slow_s: Positive = _VOLATILITY.half_life_slow_s
    """Half-life of the slow average, s."""
    warmup_s: Unsigned = _VOLATILITY.warmup_s
    """Time before the estimate replaces quote.sigma_bp_per_sqrt_s, s."""
    floor_x: Positive = _VOLATILITY.floor_x
    """Least estimate, as a multiple of the first volatility."""
    cap_x: Positive = _VOLATILITY.cap_x
    """Greatest estimate, as a multiple of the first volatility."""


class GammaSection(Section):
    """The valve that raises risk aversion when the market gets wild."""

    volatility_weight: Unsigned = _GAMMA.volatility_weight
    """Weight of the volatility score in the logarithm of the multiplier."""
    release_half_life_s: Positive = _GAMMA.release_half_life_s
    """Half-life of the multiplier's way back down, s."""
    withdraw_multiplier: AboveOne = _GAMMA.withdraw_multiplier
    """Multiplier at which quotes are withdrawn."""


class DiffSection(Section):
    """When a resting order is left alone."""

    tolerance_ticks: CountOrZero = _DIFF.tolerance_ticks
    """Distance from the target at which an order is still left alone, ticks."""
    queue_value_ticks: Unsigned = _DIFF.queue_value_ticks
    """Extra tolerance of an order at the head of its queue, ticks."""
    lots_tolerance: Share = _DIFF.lots_tolerance
    """Difference in size at which an order is still left alone, fraction of the target."""


class EngineSection(Section):
    """Clockwork of the engine."""

    timer_ms: Count = _ENGINE.timer_ms
    """Longest time between two decisions, ms."""
    wake_half_spreads: Positive = _ENGINE.wake_half_spreads
    """Move of the fair price that asks for a decision at once, in half-spreads."""


class RiskSection(Section):
    """Limits and breakers. Money is in quote currency; the three limits have no default."""

    loss_budget: Positive
    """Loss of one day at which everything halts, quote currency."""
    max_position_qty: Exact
    """Largest position, long or short, base currency, a whole number of lots."""
    max_order_qty: Exact
    """Largest single order, base currency, a whole number of lots."""
    max_open_orders_per_side: Count = _RISK.max_open_orders_per_side
    """Most own orders resting on one side."""
    loss_1m_fraction: Positive = _RISK.loss_1m_fraction
    """Loss within a minute that widens the quotes, fraction of loss_budget."""
    loss_5m_fraction: Positive = _RISK.loss_5m_fraction
    """Loss within five minutes that pauses, fraction of loss_budget."""
    loss_1h_fraction: Positive = _RISK.loss_1h_fraction
    """Loss within an hour that halts, fraction of loss_budget."""
    loss_day_fraction: Positive = _RISK.loss_day_fraction
    """Loss within a day that halts, fraction of loss_budget."""
    loss_pause_s: Positive = _RISK.loss_pause_s
    """Length of the pause after a loss within five minutes, s."""
    loss_pauses_per_day_max: CountOrZero = _RISK.loss_pauses_per_day_max
    """Pauses for loss in a day that end by themselves."""
    fill_speed_fraction_1s: Positive = _RISK.fill_speed_fraction_1s
    """Net fills within 1 s that freeze quoting, fraction of the maximum position."""
    fill_speed_fraction_5s: Positive = _RISK.fill_speed_fraction_5s
    """Net fills within 5 s that freeze quoting, fraction of the maximum position."""
    fill_speed_freeze_s: Positive = _RISK.fill_speed_freeze_s
    """Length of that freeze, s."""
    inventory_one_sided: Fraction = _RISK.inventory_one_sided
    """Position that stops the increasing side, fraction of the maximum position."""
    inventory_rearm: Fraction = _RISK.inventory_rearm
    """Position below which that side returns, fraction of the maximum position."""
    inventory_halt: AboveOne = _RISK.inventory_halt
    """Position that halts, fraction of the maximum position; beyond 1 a fill was missed."""
    inventory_pause_s: Positive = _RISK.inventory_pause_s
    """Least pause of both sides once the maximum position is reached, s."""
    depth_bps: Positive = _RISK.depth_bps
    """Band around the mid in which depth is counted, bp."""
    depth_floor: Unsigned = _RISK.depth_floor
    """Depth of one side taken as normal until its baseline is warm, quote currency."""
    depth_both: Fraction = _RISK.depth_both
    """Depth of both sides that pauses, or of one for 500 ms that pulls it, part of the baseline."""
    depth_one: Fraction = _RISK.depth_one
    """Depth of one side that pauses, fraction of the baseline."""
    depth_drop_5s: Fraction = _RISK.depth_drop_5s
    """Drop of both sides within 5 s that pauses, fraction."""
    depth_half_life_s: Positive = _RISK.depth_half_life_s
    """Half-life of the average that every depth breaker reads, s."""
    baseline_half_life_s: Positive = _RISK.baseline_half_life_s
    """Half-life of the baselines of depth and spread, s."""
    baseline_warmup_s: Unsigned = _RISK.baseline_warmup_s
    """Time before the baselines replace the static floors, s."""
    spread_median_x: AboveOne = _RISK.spread_median_x
    """Spread that pauses, as a multiple of its median; spread_bps is the least."""
    spread_bps: Positive = _RISK.spread_bps
    """Spread below which the spread breaker stays quiet, bp."""
    spread_hold_s: Unsigned = _RISK.spread_hold_s
    """Time for which the spread must stay wide, s."""
    silence_ms: Count = _RISK.silence_ms
    """Silence of the depth stream, while another stream moves, that pauses, ms."""
    silence_all_ms: Count = _RISK.silence_all_ms
    """Silence of every stream that pauses, ms."""
    age_ms: Count = _RISK.age_ms
    """Age of a message above the usual lag that pauses, ms."""
    crossed_ms: CountOrZero = _RISK.crossed_ms
    """Time for which the book may stay crossed before it is rebuilt, ms."""
    collar_bps: Positive = _RISK.collar_bps
    """Farthest distance of an order from the fair price, bp."""
    reentry_hold_s: Unsigned = _RISK.reentry_hold_s
    """Quiet time before quoting returns after a liquidity or spread breaker, s."""
    reentry_stage_s: Unsigned = _RISK.reentry_stage_s
    """Length of each size stage on the way back, s."""


class PaperSection(Section):
    """How fills are simulated on paper."""

    queue: Literal["risk_averse", "power3"] = "risk_averse"
    """How cancels ahead move our place in the queue; risk_averse: they never do."""
    queue_n: Positive = 3.0
    """Exponent of the power3 queue."""
    entry_latency_x: Unsigned = 4.0
    """Way of an order to the venue, as a multiple of the feed's lag."""
    response_latency_x: Unsigned = 3.0
    """Way of the venue's answer, as a multiple of the feed's lag."""
    entry_latency_ms_min: Unsigned = 5.0
    """Least way of an order to the venue, ms."""
    entry_latency_ms_max: Unsigned = 3000.0
    """Greatest way of an order to the venue, ms."""
    feed_latency_ms_floor: Unsigned = 1.0
    """Least lag of the feed, ms."""


class AccountSection(Section):
    """Whose orders they are. Keys stand in files of their own, never in a config."""

    name: Label | None = None
    """Label of the account, as account.acknowledge and the logs say it; live needs one."""
    api_key_file: SecretPath | None = None
    """File with the API key, relative to the config; only its owner may read it."""
    secret_file: SecretPath | None = None
    """File with the key's secret, relative to the config; only its owner may read it."""
    acknowledge: str | None = None
    """Sentence that live needs, naming the account and the loss; a refusal says which."""
    neutral_qty: ExactOrZero | None = None
    """Spot balance of the base currency that counts as no position; null is that at first start."""
    exclusive: bool = False
    """Nothing else trades this symbol on the account, so that one call may cancel all of it."""


class ExecutionSection(Section):
    """How orders travel to a venue, and how often its word is asked for."""

    recv_window_ms: RecvWindow = 1_000
    """Age at which the venue refuses a request instead of obeying it, ms."""
    request_timeout_ms: Count = 3_000
    """Time after which an unanswered request leaves its order unknown, ms."""
    dead_man_s: DeadMan = 15
    """Time without a sign of life after which the venue cancels everything, s; not on spot."""
    in_flight_ms: Count = 2_000
    """Time between two questions about orders without an answer, ms."""
    open_orders_ms: Count = 5_000
    """Time between two looks at the venue's list of open orders, ms."""
    position_ms: Count = 15_000
    """Time between two looks at the venue's position and balances, ms."""
    filters_s: Count = 60
    """Time between two looks at the venue's filters and fees, s."""
    amend: Literal["auto", "never"] = "auto"
    """auto: an order is changed in place where the venue can; never: cancelled and placed anew."""


class FeedSection(Section):
    """Where market data comes from."""

    world: Literal["live", "data", "testnet", "demo"] = "live"
    """Which of the venue's worlds to listen to; in mode testnet its test world unless given."""
    base_url: str = ""
    """Replaces the venue's hosts, as http://127.0.0.1:9000 does for a simulated exchange."""
    patience_s: Positive = 30.0
    """How long the first connection may take before a run gives up, s."""


class WebSection(Section):
    """The pages /healthz, /readyz and /metrics."""

    enabled: bool = True
    """Whether the pages are served at all."""
    host: str = "127.0.0.1"
    """Loopback address to listen on; there is no token, so no other is taken."""
    port: Annotated[int, Field(strict=True, ge=0, le=65_535)] = 8787
    """Port to listen on; 0 takes a free one."""


class RunSection(Section):
    """The folder of a run, and its logs."""

    folder: str = "runs"
    """Where run folders are made."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged."""
    market_days: CountOrZero = 7
    """Days for which raw market data is kept, 0 for ever; orders and decisions always are."""


class Settings(BaseSettings):
    """A whole config; `modes.settings.load` makes it: `Settings(layers=[weakest, …])`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    mode: Literal["paper", "testnet", "live"] = "paper"
    """Where orders go: paper fills them itself, testnet is play money, live is real money."""
    venue: Literal["binance-spot", "binance-usdm", "binance-coinm"]
    """Exchange and market."""
    symbol: Symbol
    """The symbol as the venue spells it."""
    instrument: InstrumentSection
    """Filters of the symbol; only needed where the bundled table has no entry."""
    fees: FeesSection
    """Fee rates; the venue's first tier unless given."""
    quote: QuoteSection
    """The quoting model."""
    ladder: LadderSection = LadderSection()
    """Orders per side."""
    volatility: VolatilitySection = VolatilitySection()
    """Estimators of volatility."""
    gamma: GammaSection = GammaSection()
    """The risk-aversion valve."""
    diff: DiffSection = DiffSection()
    """When a resting order is left alone."""
    engine: EngineSection = EngineSection()
    """Clockwork of the engine."""
    risk: RiskSection
    """Limits and breakers."""
    paper: PaperSection = PaperSection()
    """How fills are simulated on paper."""
    account: AccountSection = AccountSection()
    """Whose orders they are."""
    execution: ExecutionSection = ExecutionSection()
    """How orders travel to a venue."""
    feed: FeedSection = FeedSection()
    """Where market data comes from."""
    web: WebSection = WebSection()
    """The pages /healthz, /readyz and /metrics."""
    run: RunSection = RunSection()
    """The folder of a run, and its logs."""

    def __init__(self, layers: list[Mapping[str, Any]]) -> None:
        """Merge nested values, weakest first; pydantic's ValidationError when they do not fit."""
        given: dict[str, Any] = {"layers": layers}
        super().__init__(**given)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Replace pydantic's own sources, which know neither YAML nor lines, by the layers."""
        assert isinstance(init_settings, InitSettingsSource)
        layers = init_settings.init_kwargs["layers"]
        return tuple(
            InitSettingsSource(settings_cls, init_kwargs=dict(layer)) for layer in reversed(layers)
        )
