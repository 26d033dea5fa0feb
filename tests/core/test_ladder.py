"""The ladder: the vector of MODEL 11, the clamps of MODEL 0 one by one, and their properties."""

from decimal import Decimal
from itertools import pairwise
from math import ceil, floor, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.ladder import LadderRules, Target, ladder, ladder_rules
from bot.core.quoting import Terms, glft, glft_terms
from bot.domain.instrument import Instrument
from bot.domain.params import LadderParams
from bot.domain.units import Side

TERMS = Terms(half=3.0, skew=0.5)


def instrument(min_qty_lots: int = 1, min_notional: str = "0") -> Instrument:
    return Instrument(
        venue="binance",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=Decimal("0.1"),
        lot=Decimal("0.001"),
        min_qty_lots=min_qty_lots,
        min_notional=Decimal(min_notional),
    )


def rules(
    *sizes: float,
    spacing: float = 0.0,
    unit_lots: int = 10,
    min_qty_lots: int = 1,
    min_notional: str = "0",
) -> LadderRules:
    params = LadderParams(sizes_units=sizes or (1.0,), spacing_half_spreads=spacing)
    return ladder_rules(instrument(min_qty_lots, min_notional), params, unit_lots)


def quotes(*, using: LadderRules | None = None, terms: Terms = TERMS, **changes) -> list[Target]:
    """A ladder around 1000.0 in a wide market at rest, but for `changes`."""
    market = {
        "fair": 1000.0,
        "q": 0.0,
        "best_bid": 990,
        "best_ask": 1010,
        "min_half": 0.5,
        "max_distance": 500.0,
    }
    return ladder(using or rules(), terms, **(market | changes))


def ticks(targets: list[Target], side: Side) -> list[int]:
    return [target.tick for target in targets if target.side is side]


# --- where levels stand ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "bids", "asks"),
    [
        (0, [28.451, 31.1554, 35.212, 43.3251], [28.451, 31.1554, 35.212, 43.3251]),
        # Asks follow from the same numbers: base + c (x - 5) at x = 0.5, 1.5, 3, 6.
        (5, [41.9729, 44.6773, 48.7339, 56.8471], [14.9291, 17.6335, 21.69, 29.8032]),
    ],
)
def test_ladder_vector(q, bids, asks):
    """MODEL 11 prints distances in ticks; a millionth of that tick makes rounding invisible.

    Its base and c are those of g = 6.5e-4, and it leaves out the spacing.
    """
    fine = 1_000_000
    terms = glft_terms(6.5e-4 * 0.03689 / fine, 86.28 * fine, 0.8995, 0.03689 / fine)
    assert terms.skew / fine == pytest.approx(2.70439, abs=5e-6)
    fair = 600_000 * fine
    targets = quotes(
        using=rules(1, 1, 2, 4),
        terms=terms,
        fair=float(fair),
        q=float(q),
        best_bid=fair - 1,
        best_ask=fair + 1,
        max_distance=1e3 * fine,
    )
    below = [(fair - tick) / fine for tick in ticks(targets, Side.BUY)]
    above = [(tick - fair) / fine for tick in ticks(targets, Side.SELL)]
    assert below == pytest.approx(bids, abs=5.2e-5)
    assert above == pytest.approx(asks, abs=5.2e-5)


def test_bids_from_the_inside_out_and_then_asks():
    targets = quotes(using=rules(1.0, 1.5, 2.0))
    # half + skew x (0.5, 1.75, 3.5) = 3.25, 3.875, 4.75, rounded outward.
    assert targets == [
        Target(Side.BUY, 0, 996, 10),
        Target(Side.BUY, 1, 995, 15),
        Target(Side.BUY, 2, 994, 20),
        Target(Side.SELL, 0, 1004, 10),
        Target(Side.SELL, 1, 1005, 15),
        Target(Side.SELL, 2, 1006, 20),
    ]


def test_one_level_is_the_glft_quote_rounded_outward():
    gamma, sigma, A, k = 0.02, 4.0, 0.9, 0.1
    quote = glft(1000.3, 4.0, gamma, sigma, A, k)
    targets = quotes(terms=glft_terms(gamma, sigma, A, k), fair=1000.3, q=4.0)
    assert [target.tick for target in targets] == [floor(quote.bid), ceil(quote.ask)]


def test_a_long_position_lowers_both_sides():
    assert [target.tick for target in quotes(q=4.0)] == [994, 1002]
    assert [target.tick for target in quotes(q=-4.0)] == [998, 1006]


def test_spread_factor_widens_the_half_and_not_the_skew():
    # half 3 -> 6, distances 6.25 - 2 and 6.25 + 2.
    assert [target.tick for target in quotes(q=-4.0, spread_factor=2.0)] == [995, 1009]


def test_spread_factor_never_tightens_a_half_below_zero():
    terms = Terms(half=-1.0, skew=5.0)
    assert quotes(terms=terms, spread_factor=3.0) == quotes(terms=terms)


def test_spacing_is_a_tick_or_a_share_of_the_half_spread():
    # half-spread of level 0: 3 + 0.05 x 0.5; the levels' own distances differ by 0.05.
    terms = Terms(half=3.0, skew=0.05)
    one_tick = quotes(using=rules(1, 1, 1), terms=terms)
    assert ticks(one_tick, Side.BUY) == [996, 995, 994]
    wide = quotes(using=rules(1, 1, 1, spacing=0.9), terms=terms)  # 2.7225: three ticks
    assert ticks(wide, Side.BUY) == [996, 993, 990]
    assert ticks(wide, Side.SELL) == [1004, 1007, 1010]


def test_spacing_counts_the_least_half_spread():
    terms = Terms(half=0.1, skew=0.01)
    targets = quotes(using=rules(1, 1, spacing=0.5), terms=terms, min_half=8.0)
    assert ticks(targets, Side.BUY) == [992, 988]


# --- the clamps, in their order ----------------------------------------------------------


def test_1_least_half_spread_on_each_side():
    assert [target.tick for target in quotes(min_half=7.5)] == [992, 1008]
    assert [target.tick for target in quotes(min_half=4.25)] == [995, 1005]  # 3.25 before
    # A long position asks for an ask below fair; it may not have it.
    assert [target.tick for target in quotes(q=10.0, min_half=1.5)] == [991, 1002]


def test_a_negative_half_still_leaves_the_bid_below_the_ask():
    terms = Terms(half=-2.0, skew=0.5)
    assert [target.tick for target in quotes(terms=terms, q=1.0)] == [999, 1001]


def test_2_bids_down_and_asks_up():
    assert [target.tick for target in quotes(fair=1000.25)] == [997, 1004]
    assert [target.tick for target in quotes(fair=1000.2)] == [996, 1004]


def test_3_post_only_against_the_touch():
    targets = quotes(using=rules(1, 1), best_bid=980, best_ask=990)
    assert ticks(targets, Side.BUY) == [989, 988]
    assert ticks(targets, Side.SELL) == [1004, 1005]
    targets = quotes(using=rules(1, 1), best_bid=1010, best_ask=1011)
    assert ticks(targets, Side.BUY) == [996, 995]
    assert ticks(targets, Side.SELL) == [1011, 1012]


def test_5_sides_without_permission():
    both = quotes(using=rules(1, 2))
    assert quotes(using=rules(1, 2), asks=False) == both[:2]
    assert quotes(using=rules(1, 2), bids=False) == both[2:]
    assert quotes(bids=False, asks=False) == []


def test_6_lots_are_rounded_down_and_small_orders_dropped():
    small = rules(0.5, 1.99, unit_lots=3, min_qty_lots=2)
    assert [(t.level, t.lots) for t in quotes(using=small, asks=False)] == [(1, 5)]
    assert quotes(using=small, size_factor=0.2) == []


def test_6_a_dropped_level_keeps_the_place_of_the_next():
    whole = quotes(using=rules(0.5, 2, unit_lots=4), asks=False)
    assert [target.lots for target in whole] == [2, 8]
    assert quotes(using=rules(0.5, 2, unit_lots=4, min_qty_lots=3), asks=False) == whole[1:]


def test_6_a_decimal_size_is_not_lost_to_its_float():
    assert int(0.29 * 100) == 28
    assert quotes(using=rules(0.29, unit_lots=100))[0].lots == 29


def test_6_least_notional_is_exact():
    # The bid is 996 ticks x 10 lots x 0.0001 = 0.996; the ask 1.004.
    assert len(quotes(using=rules(min_notional="0.996"))) == 2
    assert ticks(quotes(using=rules(min_notional="0.99600001")), Side.BUY) == []
    assert ticks(quotes(using=rules(min_notional="1.004")), Side.SELL) == [1004]
    assert quotes(using=rules(min_notional="1.0041")) == []


def test_size_factor_scales_lots_and_not_prices():
    whole = quotes(using=rules(1, 2))
    half = quotes(using=rules(1, 2), size_factor=0.5)
    assert [target.lots for target in half] == [5, 10, 5, 10]
    assert [target.tick for target in half] == [target.tick for target in whole]


def test_levels_at_the_withdraw_distance_are_dropped():
    # Levels stand 4, 5, 6 ticks away.
    for distance, left in ((7.0, 3), (6.0, 2), (5.5, 2), (5.0, 1), (4.0, 0), (0.0, 0)):
        targets = quotes(using=rules(1.0, 1.5, 2.0), max_distance=distance)
        assert len(ticks(targets, Side.BUY)) == left
        assert len(ticks(targets, Side.SELL)) == left


def test_an_infinite_skew_is_withdrawn():
    terms = glft_terms(1e300, 1.0, 0.9, 1.0)
    assert quotes(terms=terms) == []
    # Long: the ask is wanted at once, as near as it may be; the bid never.
    assert quotes(terms=terms, q=5.0) == [Target(Side.SELL, 0, 1001, 10)]


def test_no_bid_below_the_first_tick():
    targets = quotes(using=rules(1, 1), fair=5.0, best_bid=4, best_ask=6, max_distance=inf)
    assert ticks(targets, Side.BUY) == [1]
    assert ticks(targets, Side.SELL) == [9, 10]


def test_factors_outside_their_range_are_a_bug_of_the_caller():
    for factor in (
        {"size_factor": 0.0},
        {"size_factor": 1.1},
        {"spread_factor": 0.9},
        {"min_half": 0.49},
    ):
        with pytest.raises(AssertionError):
            quotes(**factor)


def test_rules_need_sizes():
    with pytest.raises(ValueError, match="sizes above 0"):
        rules(1.0, 0.0)
    with pytest.raises(ValueError, match="sizes above 0"):
        rules(1.0, unit_lots=0)
    with pytest.raises(ValueError, match="sizes above 0"):
        ladder_rules(instrument(), LadderParams(sizes_units=()), 1)


# --- properties --------------------------------------------------------------------------

# Multiples of 1/64: sums are exact, so that what is mirrored in theory is so in floats.
dyadic = st.integers(-6400, 6400).map(lambda n: n / 64)
situations = st.fixed_dictionaries(
    {
        "using": st.builds(
            lambda sizes, spacing: rules(*sizes, spacing=spacing),
            st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=3),
            st.sampled_from([0.0, 0.25, 0.5, 2.0]),
        ),
        "terms": st.builds(
            Terms,
            half=dyadic.map(lambda x: x / 2),
            skew=st.integers(0, 640).map(lambda n: n / 64),
        ),
        "fair": dyadic.map(lambda x: 1000.0 + x),
        "q": dyadic.map(lambda x: x / 4),
        "best_bid": st.integers(900, 1000),
        "best_ask": st.integers(1001, 1100),
        "min_half": st.integers(32, 640).map(lambda n: n / 64),
        "max_distance": st.sampled_from([5.0, 50.0, 500.0]),
        "size_factor": st.sampled_from([0.05, 0.5, 1.0]),
        "spread_factor": st.sampled_from([1.0, 1.5, 3.0]),
        "bids": st.booleans(),
        "asks": st.booleans(),
    }
)


@given(situations)
def test_whatever_the_situation(situation):
    targets = quotes(**situation)
    bids, asks = ticks(targets, Side.BUY), ticks(targets, Side.SELL)
    assert [target.side for target in targets] == [Side.BUY] * len(bids) + [Side.SELL] * len(asks)
    assert all(b < a for b in bids for a in asks)
    assert all(tick <= situation["best_ask"] - 1 for tick in bids)
    assert all(tick >= situation["best_bid"] + 1 for tick in asks)
    for side, away in ((bids, -1), (asks, 1)):
        assert all(away * (later - earlier) >= 1 for earlier, later in pairwise(side))
        for tick in side:
            assert away * (tick - situation["fair"]) >= situation["min_half"]
            assert away * (tick - situation["fair"]) < situation["max_distance"]
    assert situation["bids"] or not bids
    assert situation["asks"] or not asks
    for target in targets:
        full = situation["using"].levels[target.level][1]
        assert 1 <= target.lots <= full * situation["size_factor"]
        assert target.tick >= 1


@given(situations)
def test_levels_of_a_side_keep_their_spacing(situation):
    half, skew = situation["terms"].half, situation["terms"].skew
    wanted = situation["using"]
    inner = (half * situation["spread_factor"] if half > 0 else half) + skew * wanted.levels[0][0]
    spacing = max(1.0, wanted.spacing_half_spreads * max(inner, situation["min_half"]))
    targets = quotes(**situation)
    for one, other in pairwise(targets):
        if one.side is other.side:
            assert abs(other.tick - one.tick) >= spacing * (other.level - one.level)


@given(situations)
def test_one_side_alone_is_that_side_of_both(situation):
    both = quotes(**situation | {"bids": True, "asks": True})
    bids = quotes(**situation | {"bids": True, "asks": False})
    asks = quotes(**situation | {"bids": False, "asks": True})
    assert bids + asks == both


@given(situations)
def test_asks_are_mirrored_bids(situation):
    mirrored = situation | {
        "fair": 2000.0 - situation["fair"],
        "q": -situation["q"],
        "best_bid": 2000 - situation["best_ask"],
        "best_ask": 2000 - situation["best_bid"],
        "bids": situation["asks"],
        "asks": situation["bids"],
    }
    targets = quotes(**situation)
    reflected = [
        Target(Side.SELL if t.side is Side.BUY else Side.BUY, t.level, 2000 - t.tick, t.lots)
        for t in quotes(**mirrored)
    ]
    assert sorted(targets, key=lambda t: (-t.side, t.level)) == sorted(
        reflected, key=lambda t: (-t.side, t.level)
    )


@given(situations, st.sampled_from([0.5, 1.0, 4.0]))
def test_a_longer_position_never_raises_a_quote(situation, more):
    free = situation | {"max_distance": 1e6, "bids": True, "asks": True, "size_factor": 1.0}
    before = quotes(**free)
    after = quotes(**free | {"q": free["q"] + more})
    for side in Side:
        pairs = zip(ticks(before, side), ticks(after, side), strict=False)
        assert all(later <= earlier for earlier, later in pairs)


@given(situations, st.sampled_from([1.5, 3.0]))
def test_a_wider_spread_factor_never_quotes_closer(situation, factor):
    free = situation | {"max_distance": 1e6, "size_factor": 1.0, "spread_factor": 1.0}
    before = quotes(**free)
    after = quotes(**free | {"spread_factor": factor})
    for bid, wider in zip(ticks(before, Side.BUY), ticks(after, Side.BUY), strict=False):
        assert wider <= bid
    for ask, wider in zip(ticks(before, Side.SELL), ticks(after, Side.SELL), strict=False):
        assert wider >= ask
