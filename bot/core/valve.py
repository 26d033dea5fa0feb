"""The gamma valve (MODEL 5.2): how much more risk-averse than usual the market asks us to be.

gamma = g0 M k. The multiplier M >= 1 rises at once and falls slowly; at
`withdraw_multiplier` quotes are withdrawn instead of parked far away (MODEL 5.3).
"""

from math import exp, inf, log
from typing import Final

from bot.domain.params import GammaParams
from bot.domain.units import NS_PER_S

_LN2: Final = log(2.0)

# M = 1e6. Nothing changes beyond the withdrawal at 50, but the release must end: from here
# ln M falls below ln 50 within 1.9 half-lives.
LOG_MULTIPLIER_MAX: Final = log(1e6)

_TOXICITY_WEIGHT: Final = 0.5
_DEPTH_WEIGHT: Final = 1.2
_DEPTH_DEADBAND: Final = 0.35  # in ln: nothing happens above 70 % of the usual depth
_NEWS: Final = 1.0
_FEED_DEGRADED: Final = 0.7
_Z_VOL_SD: Final = 0.35  # standard deviation of ln(sigma_fast / sigma_slow) in calm markets


def log_multiplier(
    *,
    regime: float = 1.0,
    z_vol: float = 0.0,
    z_tox: float = 0.0,
    depth_ratio: float = 1.0,
    news: bool = False,
    feed_degraded: bool = False,
    volatility_weight: float = 0.7,
) -> float:
    """ln M of MODEL 5.2, in [0, LOG_MULTIPLIER_MAX].

    `regime` is the state's own multiplier (MODEL 5.1: S1 1, S2 3, S3 2, S4 8; >= 1);
    `depth_ratio` the thinner side's depth against its usual depth (>= 0, an empty side is
    0). A NaN or a number outside its domain raises ValueError.
    """
    if not (regime >= 1.0 and depth_ratio >= 0.0 and volatility_weight >= 0.0):
        raise ValueError(
            "the valve needs regime >= 1, depth_ratio >= 0 and volatility_weight >= 0, "
            f"got {regime}, {depth_ratio}, {volatility_weight}"
        )
    if z_vol != z_vol or z_tox != z_tox:
        raise ValueError(f"the valve needs numbers, got z_vol={z_vol}, z_tox={z_tox}")
    if depth_ratio == 0.0:
        return LOG_MULTIPLIER_MAX
    log_m = log(regime)
    if z_vol > 0.0:
        log_m += volatility_weight * z_vol
    if z_tox > 0.0:
        log_m += _TOXICITY_WEIGHT * z_tox
    thinness = -log(depth_ratio) - _DEPTH_DEADBAND
    if thinness > 0.0:
        log_m += _DEPTH_WEIGHT * thinness
    if news:
        log_m += _NEWS
    if feed_degraded:
        log_m += _FEED_DEGRADED
    return min(log_m, LOG_MULTIPLIER_MAX)


def z_vol(sigma_fast: float, sigma_slow: float) -> float:
    """ln(sigma_fast / sigma_slow) / 0.35 - 1 (MODEL 5.2); both > 0, else ValueError."""
    if not (0.0 < sigma_fast < inf and 0.0 < sigma_slow < inf):
        raise ValueError(f"z_vol needs positive sigmas, got {sigma_fast} and {sigma_slow}")
    return (log(sigma_fast) - log(sigma_slow)) / _Z_VOL_SD - 1.0


class Valve:
    """M over time: attack at once, release with a half-life.

    What decays is ln M, toward the ln M asked for: it never undershoots that, and time in
    several steps releases as much as in one.
    """

    __slots__ = ("_at", "_log_m", "_release_per_ns", "multiplier")

    def __init__(self, params: GammaParams) -> None:
        self._release_per_ns = _LN2 / (params.release_half_life_s * NS_PER_S)
        self._at = 0
        self._log_m = 0.0
        self.multiplier = 1.0

    def learn(self, now: int, log_m: float) -> float:
        """Take the ln M asked for at `now` (ns; see `log_multiplier`), return M in force.

        A `now` before the last one counts as the last one: it releases nothing.
        """
        if not 0.0 <= log_m <= LOG_MULTIPLIER_MAX:
            raise ValueError(f"ln M must be in [0, {LOG_MULTIPLIER_MAX}], got {log_m}")
        elapsed = max(0, now - self._at)
        self._at += elapsed
        excess = self._log_m - log_m
        if excess > 0.0:
            released = log_m + excess * exp(-self._release_per_ns * elapsed)
            self._log_m = min(self._log_m, released)  # the sum may round up
        else:
            self._log_m = log_m
        self.multiplier = exp(self._log_m)
        return self.multiplier

    def __repr__(self) -> str:
        return f"Valve(multiplier={self.multiplier:.4g})"
