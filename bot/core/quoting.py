"""Quoting models: Avellaneda-Stoikov, Gueant-Lehalle-Fernandez-Tapia, Holt (MODEL 1.3, 2).

Pure functions of floats. The caller chooses one price unit (ticks, bp, currency) and keeps
to it: with prices in p, `sigma` is in p/sqrt(s), `k` and `gamma` in 1/p, `A` in 1/s, `tau`
in s, `mu` in p/s, `rebate` and `xi` in p. `q` is the position in order units.

Every model is two numbers, `Terms`, from which each distance to the fair price follows:

    delta_bid(q) = half + (q + 1/2) skew        delta_ask(q) = half - (q - 1/2) skew

A number outside its domain raises ValueError. Extreme numbers inside it do not raise: the
results stay finite, a skew by being capped at `SKEW_MAX`.
"""

from math import erfc, exp, inf, log, log1p, pi, sqrt
from typing import Final

import msgspec

# Far beyond any price, so that it only ever means "do not quote"; finite, so that no sum of
# distances becomes inf - inf.
SKEW_MAX: Final = 1e100
_LOG_SKEW_MAX: Final = log(SKEW_MAX)

# ln(1 + g) / g has reached its limits at both ends; g itself may underflow or overflow.
_G_MIN: Final = 1e-300
_G_MAX: Final = 1e300

_CALIBRATION_STEPS: Final = 60  # halvings; 2^-60 of any sensible range is below rounding
_NEWTON_STEPS_MAX: Final = 50


class Terms(msgspec.Struct, frozen=True, gc=False):
    """A model's quotes for every position: distance `half` and its change per unit `skew`."""

    half: float
    skew: float


class Quote(msgspec.Struct, frozen=True, gc=False):
    """One bid and one ask, and the price they lie symmetrically around. Not rounded."""

    reservation: float
    bid: float
    ask: float


def glft_terms(
    gamma: float,
    sigma: float,
    A: float,
    k: float,
    rebate: float = 0.0,
    xi: float = 0.0,
    base_gamma: float | None = None,
) -> Terms:
    """Asymptotic closed form of GLFT (MODEL 2.3): half = base + xi/2 - rebate, skew = c.

    `base_gamma` freezes the base (MODEL 2.4): base is taken at `base_gamma`, c at `gamma`,
    and the half-spread then grows with gamma everywhere. A negative rebate is a fee.
    """
    if not (
        0.0 < gamma < inf
        and 0.0 <= sigma < inf
        and 0.0 < A < inf
        and 0.0 < k < inf
        and -inf < rebate < inf
        and -inf < xi < inf
    ):
        raise _outside(gamma=gamma, sigma=sigma, A=A, k=k, rebate=rebate, xi=xi)
    half = _half(gamma if base_gamma is None else base_gamma, k, rebate, xi)
    if sigma == 0.0:
        return Terms(half, 0.0)
    g = _bounded_g(gamma, k)
    # c = e^{k xi/4} sigma sqrt(g / (2 A e^{k rebate})) (1+g)^{(1+1/g)/2}, as a sum of
    # logarithms: its factors overflow long before their product does.
    log_growth = log1p(g)
    log_skew = (
        log(sigma)
        + 0.5 * (log(g) - log(2.0 * A) + log_growth + log_growth / g)
        + k * (0.25 * xi - 0.5 * rebate)
    )
    return Terms(half, exp(log_skew) if log_skew < _LOG_SKEW_MAX else SKEW_MAX)


def avellaneda_stoikov_terms(
    gamma: float,
    sigma: float,
    tau: float,
    k: float,
    rebate: float = 0.0,
    xi: float = 0.0,
    base_gamma: float | None = None,
) -> Terms:
    """Avellaneda-Stoikov 2008 (MODEL 2.1) with `tau` = T - t seconds left (>= 0).

    half = ln(1 + gamma/k) / gamma + xi/2 - rebate, skew = gamma sigma^2 tau; `base_gamma`
    freezes the logarithm as in `glft_terms`.
    """
    if not (
        0.0 < gamma < inf
        and 0.0 <= sigma < inf
        and 0.0 <= tau < inf
        and 0.0 < k < inf
        and -inf < rebate < inf
        and -inf < xi < inf
    ):
        raise _outside(gamma=gamma, sigma=sigma, tau=tau, k=k, rebate=rebate, xi=xi)
    half = _half(gamma if base_gamma is None else base_gamma, k, rebate, xi)
    skew = gamma * sigma * sigma * tau
    return Terms(half, skew if skew < SKEW_MAX else SKEW_MAX)


def glft(
    mid: float,
    q: float,
    gamma: float,
    sigma: float,
    A: float,
    k: float,
    *,
    rebate: float = 0.0,
    xi: float = 0.0,
    mu: float = 0.0,
    base_gamma: float | None = None,
) -> Quote:
    """Quotes of MODEL 2.3 at position `q`; drift `mu` aims at q* = mu / (gamma sigma^2).

    Without volatility that target is infinite, so that a drift then raises ValueError.
    """
    terms = glft_terms(gamma, sigma, A, k, rebate, xi, base_gamma)
    if mu == 0.0:
        return _quote(mid, q, terms)
    q_target = mu / gamma / sigma / sigma if sigma > 0.0 else inf
    if not -inf < q_target < inf:
        raise ValueError(f"mu={mu} with gamma={gamma}, sigma={sigma} has no finite target")
    return _quote(mid, q - q_target, terms)


def avellaneda_stoikov(
    mid: float, q: float, gamma: float, sigma: float, tau: float, k: float
) -> Quote:
    """Quotes of MODEL 2.1, equations (29) and (30) of the paper, at position `q`."""
    return _quote(mid, q, avellaneda_stoikov_terms(gamma, sigma, tau, k))


def rolling_horizon(gamma: float, sigma: float, A: float, k: float) -> float:
    """tau* = c / (gamma sigma^2) in s, with which Avellaneda-Stoikov is GLFT (MODEL 2.3).

    Roughly the relaxation time of the inventory; it has no limit as sigma goes to 0, so
    that `sigma` must be positive.
    """
    if not sigma > 0.0:
        raise ValueError(f"a rolling horizon needs sigma > 0, got {sigma}")
    return glft_terms(gamma, sigma, A, k).skew / gamma / sigma / sigma


def withdraw_distance(A: float, k: float) -> float:
    """Distance at which one fill in 100 minutes is expected, ln(6000 A) / k (MODEL 5.3)."""
    if not (0.0 < A < inf and 0.0 < k < inf):
        raise _outside(A=A, k=k)
    return (log(6000.0) + log(A)) / k


def calibrate_g(
    A: float,
    k: float,
    sigma: float,
    q_soft: float,
    eta: float,
    *,
    g_min: float,
    g_max: float,
) -> float:
    """g = gamma/k at which the skew of `q_soft` units is eta bases, in [g_min, g_max].

    Solves c(g) q_soft = eta base(g) (MODEL 2.3): c rises and base falls with g, so that
    the root is single and a bisection in ln g finds it.
    """
    if not (0.0 < A < inf and 0.0 < k < inf and 0.0 <= sigma < inf):
        raise _outside(A=A, k=k, sigma=sigma)
    if not (0.0 < q_soft < inf and 0.0 < eta < inf):
        raise _outside(q_soft=q_soft, eta=eta)
    if not _G_MIN <= g_min <= g_max <= _G_MAX:
        raise ValueError(f"need 0 < g_min <= g_max, got {g_min}, {g_max}")
    if sigma == 0.0:
        return g_max
    constant = log(sigma) + log(q_soft) - log(eta) + log(k) - 0.5 * log(2.0 * A)

    def excess(log_g: float) -> float:
        """ln(c q_soft) - ln(eta base)."""
        g = exp(log_g)
        log_growth = log1p(g)
        ratio = log_growth / g
        return constant + 0.5 * (log_g + log_growth + ratio) - log(ratio)

    low = log(g_min)
    high = log(g_max)
    if excess(low) >= 0.0:
        return g_min
    if excess(high) <= 0.0:
        return g_max
    for _ in range(_CALIBRATION_STEPS):
        middle = 0.5 * (low + high)
        if excess(middle) < 0.0:
            low = middle
        else:
            high = middle
    return exp(0.5 * (low + high))


def holt_half_spread(sigma_t: float, rebate: float = 0.0) -> float:
    """Half-spread d >= 0 that maximises (d + rebate)(1 - Phi(d / sigma_t)) (MODEL 1.3).

    `sigma_t` is the standard deviation of the price over a quote's life, in price units;
    0.7517915 sigma_t without a rebate. From a rebate of sqrt(pi/2) sigma_t on it is 0.
    """
    if not (0.0 <= sigma_t < inf and -inf < rebate < inf):
        raise _outside(sigma_t=sigma_t, rebate=rebate)
    if -rebate >= 1e8 * sigma_t:  # a fee this large leaves nothing of R(x) beside it
        return max(0.0, -rebate)
    r = rebate / sigma_t if sigma_t > 0.0 else inf
    if r >= sqrt(pi / 2.0):
        return 0.0
    # First-order condition R(x) = x + r with the Mills ratio R = (1 - Phi) / phi. R(x) - x
    # is convex and falls, so that Newton's steps from the left of the root never pass it.
    x = max(0.0, -r)
    for _ in range(_NEWTON_STEPS_MAX):
        ratio = _mills_ratio(x)
        step = (ratio - x - r) / (2.0 - x * ratio)
        if step <= 1e-15 * x:
            break
        x += step
    return x * sigma_t


def _quote(mid: float, q: float, terms: Terms) -> Quote:
    if not (-inf < mid < inf and -inf < q < inf):
        raise _outside(mid=mid, q=q)
    half = terms.half
    skew = terms.skew
    return Quote(
        reservation=mid - q * skew,
        bid=mid - (half + (q + 0.5) * skew),
        ask=mid + (half - (q - 0.5) * skew),
    )


def _half(base_gamma: float, k: float, rebate: float, xi: float) -> float:
    """The distance that both models share; raises ValueError for a base outside its domain."""
    if not 0.0 < base_gamma < inf:
        raise _outside(base_gamma=base_gamma)
    return _base(base_gamma, k) + 0.5 * xi - rebate


def _base(gamma: float, k: float) -> float:
    """ln(1 + gamma/k) / gamma, which goes to 1/k as gamma goes to 0."""
    g = _bounded_g(gamma, k)
    return log1p(g) / g / k


def _bounded_g(gamma: float, k: float) -> float:
    g = gamma / k
    if g < _G_MIN:
        return _G_MIN
    return g if g < _G_MAX else _G_MAX


def _mills_ratio(x: float) -> float:
    """(1 - Phi(x)) / phi(x) for x >= 0."""
    if x > 25.0:  # erfc underflows from here on; the series' next term is 1e-11 of the sum
        y = 1.0 / (x * x)
        return (1.0 - y * (1.0 - 3.0 * y * (1.0 - 5.0 * y * (1.0 - 7.0 * y)))) / x
    return sqrt(pi / 2.0) * exp(0.5 * x * x) * erfc(x / sqrt(2.0))


def _outside(**values: float) -> ValueError:
    got = ", ".join(f"{name}={value}" for name, value in values.items())
    return ValueError(
        "a quoting model needs gamma, k, A, q_soft, eta > 0, sigma, tau >= 0 "
        f"and every number finite, got {got}"
    )
