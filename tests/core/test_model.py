"""The quoting model as configured."""

from math import exp

import pytest

from bot.core.model import frozen_g, terms_at
from bot.core.quoting import avellaneda_stoikov_terms, glft_terms, rolling_horizon
from bot.domain.params import QuoteParams

FAIR = 500_000.0  # ticks: one bp is 50 of them
QUOTE = QuoteParams(A_per_s=0.9, k_per_bp=2.3, q_soft_units=5.0, eta=2.0, xi_bp=0.2)
K, XI, SIGMA = 2.3 / 50.0, 0.2 * 50.0, 1.4 * 50.0
MAKER = -0.00001
REBATE = 5.0  # ticks


def test_the_frozen_base_is_the_given_one_or_calibrated_between_its_bounds() -> None:
    assert frozen_g(QuoteParams(g0=0.25)) == 0.25
    found = frozen_g(QUOTE)
    assert 1e-5 < found < 1.0
    bounds = QuoteParams(A_per_s=0.9, k_per_bp=2.3, q_soft_units=5.0, eta=2.0, g0_max=found / 2)
    assert frozen_g(bounds) == pytest.approx(found / 2)


def test_glft_in_ticks() -> None:
    terms = terms_at(FAIR, QUOTE, 0.1, 3.0, 1.4, MAKER)
    expected = glft_terms(0.3 * K, SIGMA, 0.9, K, REBATE, XI, 0.1 * K)
    assert (terms.half, terms.skew) == pytest.approx((expected.half, expected.skew))


@pytest.mark.parametrize("mode", ["fixed", "tau_star"])
def test_avellaneda_stoikov_in_ticks(mode: str) -> None:
    quote = QuoteParams(
        model="avellaneda_stoikov",
        A_per_s=0.9,
        k_per_bp=2.3,
        xi_bp=0.2,
        horizon_s=30.0,
        horizon_mode=mode,  # type: ignore[arg-type]
    )
    tau = 30.0
    if mode == "tau_star":
        tau = rolling_horizon(0.3 * K, SIGMA, 0.9 * exp(K * (REBATE - 0.5 * XI)), K)
    expected = avellaneda_stoikov_terms(0.3 * K, SIGMA, tau, K, REBATE, XI, 0.1 * K)
    terms = terms_at(FAIR, quote, 0.1, 3.0, 1.4, MAKER)
    assert (terms.half, terms.skew) == pytest.approx((expected.half, expected.skew))
