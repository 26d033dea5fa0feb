"""Volatility of the mid in bp/sqrt(s): three EWMAs of 1 s increments (MODEL 3.1)."""

from math import expm1, inf, log, sqrt
from typing import Final

from bot.domain.params import VolatilityParams
from bot.domain.units import NS_PER_S

_LN2: Final = log(2.0)

_JUMP_SIGMAS: Final = 6.0
_FAST_SHARE: Final = 0.7  # of sigma_fast that sigma must not fall below

# One increment is one observation, however long it took: after a gap it weighs no more than
# this many seconds, else a single number would replace the memory of the EWMAs.
_WEIGHT_S_MAX: Final = 5.0

# A price cannot fall by more; the same bound upward keeps every square finite.
_INCREMENT_BP_MAX: Final = 1e4


class Volatility:
    """sigma of a mid learnt at irregular times; v <- v + (1 - 2^(-dt/hl)) (dm^2/dt - v).

    Every sigma is in bp/sqrt(s), is the first sigma until `warmup_s` seconds of increments
    are seen, and is then read inside [floor_x, cap_x] times the first sigma.
    """

    __slots__ = (
        "_cap",
        "_first",
        "_floor",
        "_last_at",
        "_last_mid",
        "_rates",
        "_seen_s",
        "_v_fast",
        "_v_mid",
        "_v_slow",
        "_warmup_s",
    )

    def __init__(self, params: VolatilityParams, first_sigma_bp: float) -> None:
        """Start every EWMA at `first_sigma_bp` (> 0), so that there is no cliff later."""
        if not 0.0 < first_sigma_bp < inf:
            raise ValueError(f"the first sigma must be positive, got {first_sigma_bp}")
        if not 0.0 < params.floor_x <= params.cap_x:
            raise ValueError(f"need 0 < floor_x <= cap_x, got {params.floor_x}, {params.cap_x}")
        self._first = first_sigma_bp
        self._floor = params.floor_x * first_sigma_bp
        self._cap = params.cap_x * first_sigma_bp
        self._warmup_s = params.warmup_s
        self._rates = (
            -_LN2 / params.half_life_fast_s,
            -_LN2 / params.half_life_mid_s,
            -_LN2 / params.half_life_slow_s,
        )
        self._v_fast = self._v_mid = self._v_slow = first_sigma_bp * first_sigma_bp
        self._last_at = 0
        self._last_mid: float | None = None
        self._seen_s = 0.0

    def learn(self, now: int, mid: float) -> None:
        """Learn a mid (any unit, > 0) at `now` (ns); one second after the last increment, or
        later, it makes the next one. A `now` before the last increment is ignored.
        """
        if not 0.0 < mid < inf:
            raise ValueError(f"a mid must be positive, got {mid}")
        elapsed = now - self._last_at
        if self._last_mid is None:
            if elapsed >= 0:
                self._last_at = now
                self._last_mid = mid
            return
        if elapsed < NS_PER_S:
            return
        increment = min(1e4 * (mid / self._last_mid - 1.0), _INCREMENT_BP_MAX)
        self._last_at = now
        self._last_mid = mid
        self._update(increment * increment, elapsed / NS_PER_S)

    def restart(self, now: int) -> None:
        """Forget the last mid, not the variances: the book was not to be trusted until `now`."""
        self._last_at = max(now, self._last_at)
        self._last_mid = None

    @property
    def sigma(self) -> float:
        """sigma to quote with: max(sigma_mid, 0.7 sigma_fast)."""
        return self._read(max(self._v_mid, _FAST_SHARE * _FAST_SHARE * self._v_fast))

    @property
    def fast(self) -> float:
        """sigma of the fast EWMA (risk); the only one that takes a jump at full weight."""
        return self._read(self._v_fast)

    @property
    def mid(self) -> float:
        """sigma of the middle EWMA."""
        return self._read(self._v_mid)

    @property
    def slow(self) -> float:
        """sigma of the slow EWMA, the reference of the valve."""
        return self._read(self._v_slow)

    @property
    def ready(self) -> bool:
        """The warm-up is over."""
        return self._seen_s >= self._warmup_s

    def __repr__(self) -> str:
        return (
            f"Volatility(sigma={self.sigma:.4g}, fast={self.fast:.4g}, mid={self.mid:.4g}, "
            f"slow={self.slow:.4g}, ready={self.ready})"
        )

    def _update(self, squared: float, dt: float) -> None:
        """Take one increment: its square in bp^2, its time in s."""
        # The floor belongs here too: from v = 0 every move would be a jump of size 0.
        sigma_mid_squared = max(self._v_mid, self._floor * self._floor)
        bound = _JUMP_SIGMAS * _JUMP_SIGMAS * sigma_mid_squared * dt
        observed = squared / dt
        winsorised = min(squared, bound) / dt
        weight_s = min(dt, _WEIGHT_S_MAX)
        rate_fast, rate_mid, rate_slow = self._rates
        self._v_fast -= expm1(rate_fast * weight_s) * (observed - self._v_fast)
        self._v_mid -= expm1(rate_mid * weight_s) * (winsorised - self._v_mid)
        self._v_slow -= expm1(rate_slow * weight_s) * (winsorised - self._v_slow)
        self._seen_s += weight_s

    def _read(self, variance: float) -> float:
        if self._seen_s < self._warmup_s:
            return self._first
        return min(max(sqrt(variance), self._floor), self._cap)
