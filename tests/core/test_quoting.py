"""Quoting models against the vectors of MODEL 1.3, 2.1, 2.3, 2.4, 2.6 and 5.3."""

from math import exp, inf, isfinite, log, nan, sqrt
from statistics import NormalDist

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bot.core.quoting import (
    SKEW_MAX,
    Quote,
    Terms,
    avellaneda_stoikov,
    avellaneda_stoikov_terms,
    calibrate_g,
    glft,
    glft_terms,
    holt_half_spread,
    rolling_horizon,
    withdraw_distance,
)

# Parameters of MODEL 2.6: the GLFT paper (ticks), the Avellaneda-Stoikov paper ($).
PAPER = {"gamma": 0.01, "sigma": 0.3, "A": 0.9, "k": 0.3}
AS_ENV = {"gamma": 0.1, "sigma": 2.0, "A": 140.0, "k": 1.5}

gammas = st.floats(1e-9, 1e3)
sigmas = st.floats(1e-4, 1e3)
intensities = st.floats(1e-3, 1e4)
decays = st.floats(1e-4, 1e2)
positions = st.floats(-50.0, 50.0)


def printed(digits: int) -> float:
    """Half a unit of the last printed digit, and rounding of our own."""
    return 0.5000001 * 10.0**-digits


def paper_distances(q: float, **extra: float) -> tuple[float, float]:
    quote = glft(0.0, q, **PAPER, **extra)
    return -quote.bid, quote.ask


# --- Avellaneda-Stoikov ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "gamma", "sigma", "tau", "k", "expected"),
    [
        (0, 0.1, 2.0, 1.0, 1.5, Quote(100.0, 99.15461478862429, 100.84538521137571)),
        (5, 0.1, 2.0, 1.0, 1.5, Quote(98.0, 97.15461478862429, 98.84538521137571)),
        (-3, 0.5, 2.0, 0.25, 1.5, Quote(101.5, 100.67463585509644, 102.32536414490356)),
    ],
)
def test_avellaneda_stoikov_vectors(q, gamma, sigma, tau, k, expected):
    quote = avellaneda_stoikov(100.0, q, gamma, sigma, tau, k)
    assert quote.reservation == pytest.approx(expected.reservation, abs=1e-9)
    assert quote.bid == pytest.approx(expected.bid, abs=1e-9)
    assert quote.ask == pytest.approx(expected.ask, abs=1e-9)


def test_avellaneda_stoikov_at_the_end_of_its_horizon_forgets_the_position():
    terms = avellaneda_stoikov_terms(0.1, 2.0, 0.0, 1.5)
    assert terms == Terms(half=pytest.approx(10.0 * log(1.0 + 0.1 / 1.5)), skew=0.0)


def test_rebate_adverse_move_and_frozen_base_move_only_the_half():
    calm = avellaneda_stoikov_terms(0.1, 2.0, 1.0, 1.5)
    wild = avellaneda_stoikov_terms(0.4, 2.0, 1.0, 1.5, rebate=0.02, xi=0.1, base_gamma=0.1)
    assert wild.half == pytest.approx(calm.half + 0.05 - 0.02)
    assert wild.skew == avellaneda_stoikov_terms(0.4, 2.0, 1.0, 1.5).skew


@given(positions, gammas, sigmas, st.floats(0.0, 1e3), decays)
def test_avellaneda_stoikov_is_equations_29_and_30(q, gamma, sigma, tau, k):
    quote = avellaneda_stoikov(0.0, q, gamma, sigma, tau, k)
    risk = gamma * sigma**2 * tau
    scale = max(risk * (abs(q) + 1.0), 1.0 / k)
    spread = risk + 2.0 / gamma * log(1.0 + gamma / k)
    # The naive logarithm itself is only good to 1e-16 k / gamma.
    tolerance = scale * (1e-12 + 4e-16 * k / gamma)
    assert quote.reservation == pytest.approx(-q * risk, abs=tolerance)
    assert quote.ask - quote.bid == pytest.approx(spread, abs=tolerance)


# --- GLFT --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "bid", "ask"),
    [
        (-29, 1.344806, 5.281024),
        (-10, 2.634257, 3.991574),
        (-1, 3.245049, 3.380781),
        (0, 3.312915, 3.312915),
        (5, 3.652244, 2.973586),
        (20, 4.670232, 1.955599),
    ],
)
def test_glft_closed_form_columns(q, bid, ask):
    assert paper_distances(q) == pytest.approx((bid, ask), abs=printed(6))


def test_glft_with_drift():
    assert paper_distances(0, mu=0.001) == pytest.approx((3.237509, 3.388322), abs=printed(6))


def test_glft_with_adverse_selection():
    assert paper_distances(0, xi=1.0) == pytest.approx((3.815558, 3.815558), abs=printed(6))


@pytest.mark.parametrize(
    ("rebate", "distance", "skew"), [(0.5, 2.810463, 0.0629621), (-2.0, 5.324787, 0.0916093)]
)
def test_glft_with_rebate_or_fee(rebate, distance, skew):
    bid, ask = paper_distances(0, rebate=rebate)
    assert bid == ask == pytest.approx(distance, abs=printed(6))
    assert glft_terms(**PAPER, rebate=rebate).skew == pytest.approx(skew, abs=printed(7))


def test_glft_with_everything():
    distances = paper_distances(3, rebate=0.5, xi=1.0, mu=0.001)
    assert distances == pytest.approx((3.441106, 3.184724), abs=printed(6))


def test_glft_with_another_order_size_is_the_same_model_in_units_of_that_size():
    size = 0.05  # Gueant 2016: q counts contracts, an order is 0.05 of one
    terms = glft_terms(PAPER["gamma"] * size, PAPER["sigma"], PAPER["A"], PAPER["k"])
    assert terms.half == pytest.approx(3.330559, abs=printed(6))
    assert terms.skew / size == pytest.approx(0.301139, abs=printed(6))
    assert terms.half + 0.5 * terms.skew == pytest.approx(3.338087, abs=printed(6))
    quote = glft(0.0, 0.5 / size, PAPER["gamma"] * size, PAPER["sigma"], PAPER["A"], PAPER["k"])
    assert (-quote.bid, quote.ask) == pytest.approx((3.488657, 3.187517), abs=printed(6))


def test_glft_is_the_hftbacktest_tutorial():
    terms = glft_terms(0.05, 10.69, 2.986162360812285, 0.04235741115084049)
    assert terms.half + 0.5 * terms.skew == pytest.approx(20.47208533844371, rel=1e-13)
    assert terms.skew == pytest.approx(9.76326865029227, rel=1e-13)


@given(gammas, sigmas, intensities, decays)
def test_glft_skew_is_the_formula(gamma, sigma, A, k):
    power = (1.0 + 1.0 / (gamma / k)) * log(1.0 + gamma / k)
    assume(gamma / k > 1e-4)  # below, the naive power is not a reference any more
    skew = sqrt(gamma * sigma**2 / (2.0 * k * A) * exp(power))
    assert glft_terms(gamma, sigma, A, k).skew == pytest.approx(skew, rel=1e-10)


def test_glft_limits_of_small_gamma():
    terms = glft_terms(1e-12, 2.0, 140.0, 1.5)
    assert terms.half == pytest.approx(1.0 / 1.5, rel=1e-11)
    g = 1e-12 / 1.5
    assert terms.skew == pytest.approx(2.0 * sqrt(exp(1.0) * g / 280.0), rel=1e-11)


def test_glft_drift_is_a_shift_of_the_position():
    target = 0.001 / (0.01 * 0.3**2)
    drifting = glft(50.0, 4.0, **PAPER, mu=0.001)
    shifted = glft(50.0, 4.0 - target, **PAPER)
    assert drifting.bid == pytest.approx(shifted.bid, rel=1e-14)
    assert drifting.ask == pytest.approx(shifted.ask, rel=1e-14)
    assert drifting.reservation == pytest.approx(shifted.reservation, rel=1e-14)


@given(positions, gammas, sigmas, intensities, decays)
def test_terms_give_the_distances_of_both_models(q, gamma, sigma, A, k):
    tau = rolling_horizon(gamma, sigma, A, k)
    for terms, quote in (
        (glft_terms(gamma, sigma, A, k), glft(0.0, q, gamma, sigma, A, k)),
        (
            avellaneda_stoikov_terms(gamma, sigma, tau, k),
            avellaneda_stoikov(0.0, q, gamma, sigma, tau, k),
        ),
    ):
        scale = terms.half + terms.skew * (abs(q) + 1.0)
        bid = terms.half + (q + 0.5) * terms.skew
        ask = terms.half - (q - 0.5) * terms.skew
        assert -quote.bid == pytest.approx(bid, abs=1e-12 * scale)
        assert quote.ask == pytest.approx(ask, abs=1e-12 * scale)
        middle = 0.5 * (quote.bid + quote.ask)
        assert quote.reservation == pytest.approx(middle, abs=1e-12 * scale)


# --- the two models are one --------------------------------------------------------------


# MODEL 2.6. 40 digits of arithmetic give 1.34248763887 for the first spread.
@pytest.mark.parametrize(
    ("setup", "skew", "tau", "digits", "spread"),
    [
        (AS_ENV, 0.0517172161, 0.12929304, 8, 1.3424876389),
        (PAPER, 0.0678658325, 75.406, 3, 6.6258303971),
    ],
)
def test_rolling_horizon_vectors(setup, skew, tau, digits, spread):
    terms = glft_terms(**setup)
    assert terms.skew == pytest.approx(skew, abs=printed(10))
    assert rolling_horizon(**setup) == pytest.approx(tau, abs=printed(digits))
    assert 2.0 * terms.half + terms.skew == pytest.approx(spread, abs=printed(10))


@given(gammas, sigmas, intensities, decays)
def test_rolling_horizon_is_the_formula(gamma, sigma, A, k):
    assume(gamma / k > 1e-4)
    power = (1.0 + k / gamma) * log(1.0 + gamma / k)
    tau = sqrt(exp(power) / (2.0 * k * A * gamma * sigma**2))
    assert rolling_horizon(gamma, sigma, A, k) == pytest.approx(tau, rel=1e-10)


@given(positions, gammas, sigmas, intensities, decays)
def test_avellaneda_stoikov_over_the_rolling_horizon_is_glft(q, gamma, sigma, A, k):
    tau = rolling_horizon(gamma, sigma, A, k)
    ours = avellaneda_stoikov(0.0, q, gamma, sigma, tau, k)
    theirs = glft(0.0, q, gamma, sigma, A, k)
    terms = glft_terms(gamma, sigma, A, k)
    # Relative to the summands: at some q the distance itself is their difference, 0.
    tolerance = 1e-12 * (terms.half + terms.skew * (abs(q) + 0.5))
    assert ours.reservation == pytest.approx(theirs.reservation, abs=tolerance)
    assert ours.bid == pytest.approx(theirs.bid, abs=tolerance)
    assert ours.ask == pytest.approx(theirs.ask, abs=tolerance)


@given(
    q=positions,
    gamma=gammas,
    sigma=sigmas,
    A=intensities,
    k=decays,
    rebate_k=st.floats(-3.0, 3.0),
    xi_k=st.floats(0.0, 3.0),
    drift=st.floats(-2.0, 2.0),
    unit=st.sampled_from([0.1, 0.01, 1e4 / 61_234.5, 7.0]),
)
def test_prices_do_not_depend_on_the_unit(q, gamma, sigma, A, k, rebate_k, xi_k, drift, unit):
    """`unit` is what one dollar is in the other unit (ticks, bp, ...)."""
    mid, rebate, xi, mu = 61_234.5, rebate_k / k, xi_k / k, drift * gamma * sigma**2
    dollars = glft(mid, q, gamma, sigma, A, k, rebate=rebate, xi=xi, mu=mu)
    scaled = glft(
        mid * unit,
        q,
        gamma / unit,
        sigma * unit,
        A,
        k / unit,
        rebate=rebate * unit,
        xi=xi * unit,
        mu=mu * unit,
    )
    terms = glft_terms(gamma, sigma, A, k, rebate, xi)
    scale = mid + abs(terms.half) + 3.0 / k + terms.skew * (abs(q) + 3.0)
    for name in ("reservation", "bid", "ask"):
        price = getattr(scaled, name) / unit
        assert price == pytest.approx(getattr(dollars, name), abs=1e-12 * scale)


# --- the frozen base ---------------------------------------------------------------------

# Calibrated g of MODEL 2.6 for the two papers, the first one rounded.
G0_AS = 0.0992
G0_PAPER = 0.0807639611


@pytest.mark.parametrize(
    ("g0", "setup", "multiplier", "half", "digits"),
    [
        (G0_AS, AS_ENV, 1, 0.6674, 4),
        (G0_AS, AS_ENV, 3, 0.6411, 4),
        (G0_AS, AS_ENV, 10, 0.5820, 4),
        (G0_AS, AS_ENV, 30, 0.5684, 4),
        (G0_AS, AS_ENV, 100, 0.8623, 4),
        (G0_AS, AS_ENV, 1000, 6.13, 2),
        (G0_PAPER, PAPER, 1, 3.259, 3),
        (G0_PAPER, PAPER, 10, 2.638, 3),
        (G0_PAPER, PAPER, 100, 2.008, 3),
        (G0_PAPER, PAPER, 1000, 9.52, 2),
    ],
)
def test_raising_gamma_tightens_raw_quotes_at_first(g0, setup, multiplier, half, digits):
    k = setup["k"]
    terms = glft_terms(multiplier * g0 * k, setup["sigma"], setup["A"], k)
    assert terms.half + 0.5 * terms.skew == pytest.approx(half, abs=printed(digits))


@pytest.mark.parametrize(
    ("multiplier", "half", "digits"),
    [
        (1, 0.6674, 4),
        (3, 0.6932, 4),
        (10, 0.7545, 4),
        (30, 0.8949, 4),
        (100, 1.3373, 4),
        (1000, 6.73, 2),
    ],
)
def test_frozen_base_half_spreads(multiplier, half, digits):
    gamma0 = G0_AS * AS_ENV["k"]
    quote = glft(0.0, 0.0, multiplier * gamma0, 2.0, 140.0, 1.5, base_gamma=gamma0)
    assert quote.ask == -quote.bid == pytest.approx(half, abs=printed(digits))


@given(
    gamma0=st.floats(1e-6, 1.0),
    multiplier=st.floats(1.0, 1e6),
    factor=st.floats(1.0 + 1e-6, 1e3),
    sigma=sigmas,
    A=intensities,
    k=decays,
)
def test_half_spread_grows_with_gamma_once_the_base_is_frozen(
    gamma0, multiplier, factor, sigma, A, k
):
    """MODEL 2.4."""
    low = glft_terms(multiplier * gamma0, sigma, A, k, base_gamma=gamma0)
    high = glft_terms(multiplier * factor * gamma0, sigma, A, k, base_gamma=gamma0)
    assert high.half == low.half
    assert high.skew > low.skew
    assert high.half + 0.5 * high.skew >= low.half + 0.5 * low.skew


# --- calibration -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "k", "sigma", "q_soft", "g", "gamma", "base", "skew"),
    [
        (0.9, 0.3, 0.3, 30, 0.0807639611, 0.0242291883, 3.2055618785, 0.1068520626),
        (140.0, 1.5, 2.0, 10, 0.0991692675, 0.1487539012, 0.6356450643, 0.0635645064),
        (0.8995, 0.03689, 86.28, 10, 6.526405e-4, 2.407591e-5, 27.0987753, 2.7098775),
    ],
)
def test_calibration_vectors(A, k, sigma, q_soft, g, gamma, base, skew):
    found = calibrate_g(A, k, sigma, q_soft, 1.0, g_min=1e-5, g_max=1.0)
    terms = glft_terms(found * k, sigma, A, k)
    small = g < 1e-3  # printed with seven digits
    assert found == pytest.approx(g, abs=printed(10))
    assert found * k == pytest.approx(gamma, abs=printed(11 if small else 10))
    assert terms.half == pytest.approx(base, abs=printed(7 if small else 10))
    assert terms.skew == pytest.approx(skew, abs=printed(7 if small else 10))


@given(sigmas, intensities, decays, st.floats(0.5, 100.0), st.floats(0.1, 3.0))
def test_calibration_solves_its_equation_or_stands_at_a_bound(sigma, A, k, q_soft, eta):
    g = calibrate_g(A, k, sigma, q_soft, eta, g_min=1e-5, g_max=1.0)
    terms = glft_terms(g * k, sigma, A, k)
    if g == 1e-5:
        assert terms.skew * q_soft >= eta * terms.half * (1.0 - 1e-12)
    elif g == 1.0:
        assert terms.skew * q_soft <= eta * terms.half * (1.0 + 1e-12)
    else:
        assert terms.skew * q_soft == pytest.approx(eta * terms.half, rel=1e-11)


def test_calibration_is_clamped():
    assert calibrate_g(0.9, 0.3, 1e4, 30.0, 1.0, g_min=1e-5, g_max=1.0) == 1e-5
    assert calibrate_g(0.9, 0.3, 1e-4, 30.0, 1.0, g_min=1e-5, g_max=1.0) == 1.0
    assert calibrate_g(0.9, 0.3, 0.0, 30.0, 1.0, g_min=1e-5, g_max=1.0) == 1.0
    assert calibrate_g(0.9, 0.3, 0.3, 30.0, 1.0, g_min=0.5, g_max=0.5) == 0.5


# --- Holt and the withdraw distance ------------------------------------------------------


@pytest.mark.parametrize(
    ("rebate", "half", "digits"),
    [(0.0, 0.7517915, 7), (0.25, 0.582148, 6), (0.5, 0.422040, 6), (-0.5, 1.117327, 6)],
)
def test_holt_vectors(rebate, half, digits):
    assert holt_half_spread(1.0, rebate) == pytest.approx(half, abs=printed(digits))
    assert holt_half_spread(8.0, 8.0 * rebate) == pytest.approx(8.0 * half, abs=8e-6)


@given(st.floats(-5.0, 1.2))
@example(-5.0)
def test_holt_maximises_the_expected_profit(rebate):
    best = holt_half_spread(1.0, rebate)
    normal = NormalDist()

    def profit(distance: float) -> float:
        return (distance + rebate) * normal.cdf(-distance)

    # Scaled by a typical profit: at a fee of five sigmas it is 1e-9.
    slack = 1e-9 * profit(best)
    assert profit(best) > 0.0
    for away in (1e-3, 0.1, 1.0):
        assert profit(best) >= profit(best + away) - slack
        if best >= away:
            assert profit(best) >= profit(best - away) - slack
    assert profit(best) > profit(best + 0.1)


def test_holt_at_its_ends():
    assert holt_half_spread(1.0, 2.0) == 0.0
    assert holt_half_spread(0.0, 1.0) == 0.0
    assert holt_half_spread(0.0, -3.0) == 3.0
    assert holt_half_spread(1e-300, -3.0) == 3.0
    # R(x) = x - 40 with R(x) ~ 1/x: both branches of the Mills ratio agree.
    assert holt_half_spread(1.0, -40.0) == pytest.approx(40.0 + 1.0 / 40.025, rel=1e-6)
    inner, outer = (holt_half_spread(1.0, -fee) - fee for fee in (24.9599, 24.9601))
    assert inner == pytest.approx(outer, rel=1e-5)


@pytest.mark.parametrize(
    ("A", "k", "distance", "digits"),
    [(140.0, 1.5, 9.094, 3), (0.9, 0.3, 28.65, 2), (0.8995, 0.03689, 233, 0)],
)
def test_withdraw_distance_vectors(A, k, distance, digits):
    assert withdraw_distance(A, k) == pytest.approx(distance, abs=printed(digits))


# --- the domain --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gamma", "A", "k"])
@pytest.mark.parametrize("value", [0.0, -1.0, nan, inf])
def test_numbers_outside_the_domain_are_refused(name, value):
    numbers = PAPER | {name: value}
    for model in (glft_terms, rolling_horizon):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            model(**numbers)
    if name != "gamma":
        with pytest.raises(ValueError, match=f"{name}={value}"):
            withdraw_distance(**{n: numbers[n] for n in ("A", "k")})
        with pytest.raises(ValueError, match=f"{name}={value}"):
            calibrate_g(numbers["A"], numbers["k"], 0.3, 30.0, 1.0, g_min=1e-5, g_max=1.0)
    if name != "A":
        with pytest.raises(ValueError, match=f"{name}={value}"):
            avellaneda_stoikov_terms(numbers["gamma"], 0.3, 1.0, numbers["k"])


@pytest.mark.parametrize("sigma", [-1e-9, nan, inf])
def test_bad_sigmas_are_refused(sigma):
    with pytest.raises(ValueError, match=f"sigma={sigma}"):
        glft_terms(0.01, sigma, 0.9, 0.3)
    with pytest.raises(ValueError, match=f"sigma={sigma}"):
        avellaneda_stoikov_terms(0.01, sigma, 1.0, 0.3)
    with pytest.raises(ValueError, match=f"sigma={sigma}"):
        calibrate_g(0.9, 0.3, sigma, 30.0, 1.0, g_min=1e-5, g_max=1.0)
    with pytest.raises(ValueError, match=f"sigma_t={sigma}"):
        holt_half_spread(sigma)


def test_other_bad_numbers_are_refused():
    with pytest.raises(ValueError, match="rebate=nan"):
        glft_terms(**PAPER, rebate=nan)
    with pytest.raises(ValueError, match="xi=inf"):
        glft_terms(**PAPER, xi=inf)
    with pytest.raises(ValueError, match="base_gamma=0"):
        glft_terms(**PAPER, base_gamma=0.0)
    with pytest.raises(ValueError, match="tau=-1"):
        avellaneda_stoikov_terms(0.1, 2.0, -1.0, 1.5)
    with pytest.raises(ValueError, match="base_gamma=0"):
        avellaneda_stoikov_terms(0.1, 2.0, 1.0, 1.5, base_gamma=0.0)
    with pytest.raises(ValueError, match="mid=nan"):
        glft(nan, 0.0, **PAPER)
    with pytest.raises(ValueError, match="q=inf"):
        avellaneda_stoikov(100.0, inf, 0.1, 2.0, 1.0, 1.5)
    with pytest.raises(ValueError, match="no finite target"):
        glft(100.0, 0.0, **PAPER | {"sigma": 0.0}, mu=0.1)
    with pytest.raises(ValueError, match="no finite target"):
        glft(100.0, 0.0, **PAPER, mu=nan)
    with pytest.raises(ValueError, match="sigma > 0"):
        rolling_horizon(0.1, 0.0, 0.9, 0.3)
    with pytest.raises(ValueError, match="q_soft=0"):
        calibrate_g(0.9, 0.3, 0.3, 0.0, 1.0, g_min=1e-5, g_max=1.0)
    with pytest.raises(ValueError, match="g_min <= g_max"):
        calibrate_g(0.9, 0.3, 0.3, 30.0, 1.0, g_min=1.0, g_max=0.1)


def test_without_volatility_there_is_no_skew():
    assert glft_terms(0.01, 0.0, 0.9, 0.3).skew == 0.0
    quote = glft(100.0, 7.0, 0.01, 0.0, 0.9, 0.3)
    assert quote.reservation == 100.0


magnitudes = st.floats(-300.0, 300.0).map(lambda power: 10.0**power)


@given(
    magnitudes,
    magnitudes,
    magnitudes,
    st.floats(-100.0, 100.0).map(lambda power: 10.0**power),
    st.floats(-1e300, 1e300),
    st.floats(-1e300, 1e300),
    positions,
)
@example(1e300, 1.0, 1.0, 1e-100, 0.0, 0.0, -0.5)
@example(1e-300, 1e-300, 1e300, 1e100, -1e300, 1e300, 5.0)
@example(1e300, 1e300, 1e-300, 1e-100, 0.0, 0.0, 0.0)
def test_extreme_numbers_give_finite_terms(gamma, sigma, A, k, rebate, xi, q):
    for terms in (
        glft_terms(gamma, sigma, A, k, rebate, xi),
        avellaneda_stoikov_terms(gamma, sigma, A, k),
    ):
        assert isfinite(terms.half)
        assert 0.0 <= terms.skew <= SKEW_MAX
    quote = glft(100.0, q, gamma, sigma, A, k)
    assert isfinite(quote.bid)
    assert isfinite(quote.ask)
    assert isfinite(quote.reservation)
