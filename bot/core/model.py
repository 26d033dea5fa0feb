"""The quoting model as configured: its frozen base, and its terms at a fair price."""

from math import exp

from bot.core.quoting import (
    Terms,
    avellaneda_stoikov_terms,
    calibrate_g,
    glft_terms,
    rolling_horizon,
)
from bot.domain.params import QuoteParams
from bot.domain.units import BPS


def frozen_g(quote: QuoteParams) -> float:
    """gamma / k of the frozen base: given, or calibrated to q_soft (MODEL 2.3), in bp."""
    if quote.g0 is not None:
        return quote.g0
    return calibrate_g(
        quote.A_per_s,
        quote.k_per_bp,
        quote.sigma_bp_per_sqrt_s,
        quote.q_soft_units,
        quote.eta,
        g_min=quote.g0_min,
        g_max=quote.g0_max,
    )


def terms_at(
    fair: float, quote: QuoteParams, g0: float, multiplier: float, sigma_bp: float, maker: float
) -> Terms:
    """The model's terms in ticks at a fair price in ticks (MODEL 2, 5.2).

    `g0` is the frozen base, `multiplier` the valve's, `maker` the signed maker fee rate.
    """
    bp = fair * BPS
    k = quote.k_per_bp / bp
    sigma = sigma_bp * bp
    base_gamma = g0 * k
    gamma = base_gamma * multiplier
    rebate = -maker * fair
    xi = quote.xi_bp * bp
    if quote.model == "glft":
        return glft_terms(gamma, sigma, quote.A_per_s, k, rebate, xi, base_gamma)
    if quote.horizon_mode == "fixed":
        tau = quote.horizon_s
    else:
        # Rebate and adverse move are part of what tau* balances: A' and c of MODEL 2.3.
        rate = quote.A_per_s * exp(k * (rebate - 0.5 * xi))
        tau = rolling_horizon(gamma, sigma, rate, k)
    return avellaneda_stoikov_terms(gamma, sigma, tau, k, rebate, xi, base_gamma)
