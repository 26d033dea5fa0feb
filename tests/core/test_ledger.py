"""Profit to the last digit: the examples of MODEL 1.1 and MODEL 9, and the identity."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.core import ledger as ledger_module
from bot.core.ledger import (
    Ledger,
    Markouts,
    break_even_ask,
    break_even_ask_tick,
    effective_cost,
    effective_revenue,
)
from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_S, Side
from bot.domain.view import PnlView

D = Decimal
MAKER = D("-0.0001")  # a rebate
TAKER = D("0.0002")
TICK = D("0.1")
FEES = Fees(maker=MAKER, taker=TAKER)


def instrument(tick: str = "0.1", lot: str = "1", linear: bool = True) -> Instrument:
    return Instrument("venue", "AB", "A", "B", D(tick), D(lot), linear=linear)


def tick_of(price: str, tick: str = "0.1") -> int:
    ticks = D(price) / D(tick)
    assert ticks == int(ticks)
    return int(ticks)


def article() -> Ledger:
    return Ledger(instrument(), FEES)


def buy(ledger: Ledger, price: str, lots: int = 1, mid: str | None = None) -> None:
    ledger.fill(Side.BUY, tick_of(price), lots, True, D(mid or price), 1)


def sell(ledger: Ledger, price: str, lots: int = 1, maker: bool = True) -> None:
    ledger.fill(Side.SELL, tick_of(price), lots, maker, D(price), 1)


class TestArticle:
    """MODEL 1.1: taker fee 0.02 %, maker rebate 0.01 %, tick 0.1, quantity 1."""

    COST = D("999.9")
    AVERAGE = D("998.9001")

    def test_p1_buy_maker(self) -> None:
        assert effective_cost(D("1000.0"), MAKER) == D("999.90000")

    def test_p2_sell_maker(self) -> None:
        assert effective_revenue(D("1000.1"), MAKER) == D("1000.20001")

    def test_p3_round_trip(self) -> None:
        ledger = article()
        buy(ledger, "1000.0")
        sell(ledger, "1000.1")
        view = ledger.mark(D("1000.05"))
        assert view.total == D("0.30001") == D("0.1") + D("0.10000") + D("0.10001")
        assert view.rebates == D("0.20001")

    def test_p4_plan_1_taker_exit(self) -> None:
        assert self.COST - effective_revenue(D("998.0"), TAKER) == D("2.09960")
        ledger = article()
        buy(ledger, "1000.0")
        sell(ledger, "998.0", maker=False)
        view = ledger.mark(D("998.0"))
        assert view.total == D("-2.09960")
        assert view.taker_fees == D("0.19960")

    def test_p5_plan_2_maker_exit(self) -> None:
        assert self.COST - effective_revenue(D("998.1"), MAKER) == D("1.70019")
        ledger = article()
        buy(ledger, "1000.0")
        sell(ledger, "998.1")
        assert ledger.mark(D("998.1")).total == D("-1.70019")

    def test_p6_plan_3_buys_more(self) -> None:
        assert effective_cost(D("998.0"), MAKER) == D("997.90020")
        ledger = article()
        buy(ledger, "1000.0")
        assert ledger.average_cost == self.COST
        buy(ledger, "998.0")
        assert ledger.average_cost == self.AVERAGE

    @pytest.mark.parametrize(
        ("average", "exact", "nearest", "up"),
        [(COST, "999.8000200", "999.8", 9999), (AVERAGE, "998.8002200", "998.8", 9989)],
    )
    def test_p7_break_even_ask(self, average: Decimal, exact: str, nearest: str, up: int) -> None:
        price = break_even_ask(average, MAKER)
        assert price.quantize(D("1e-7")) == D(exact)
        assert price.quantize(TICK) == D(nearest)
        with localcontext(ledger_module.MONEY):
            assert abs(effective_revenue(price, MAKER) - average) < D("1e-45")
        # Up to the tick is one tick more than the nearest: there a sale really pays.
        tick = break_even_ask_tick(average, MAKER, TICK)
        assert tick == up
        assert effective_revenue(tick * TICK, MAKER) >= average
        assert effective_revenue((tick - 1) * TICK, MAKER) < average

    def test_a_break_even_on_the_grid_stays_there(self) -> None:
        average = effective_revenue(D("998.8"), MAKER)
        assert break_even_ask(average, MAKER) == D("998.8")
        assert break_even_ask_tick(average, MAKER, TICK) == 9988

    @pytest.mark.parametrize(
        ("price", "gain"), [("998.8", "-0.00022"), ("998.9", "0.09979")], ids=["nearest", "above"]
    )
    def test_p8_p9_sale_against_the_average(self, price: str, gain: str) -> None:
        assert effective_revenue(D(price), MAKER) - self.AVERAGE == D(gain)
        ledger = article()
        buy(ledger, "1000.0")
        buy(ledger, "998.0")
        sell(ledger, price, 2)
        assert ledger.mark(D(price)).total == 2 * D(gain)

    def test_p10_displayed_spread(self) -> None:
        bid = D("998.0")
        asks = [break_even_ask(a, MAKER).quantize(TICK) for a in (self.COST, self.AVERAGE)]
        assert [ask - bid for ask in asks] == [D("1.8"), D("0.8")]

    def test_p11_limit_of_plan_3(self) -> None:
        ledger = article()
        for price in range(1000, 899, -2):
            buy(ledger, str(price))
        assert ledger.position_lots == 51
        assert ledger.average_cost == D("949.9050")
        assert ledger.mark(D(900)).total == D("-2545.1550")
        sell(ledger, "900", 51, maker=False)
        assert ledger.mark(D(900)).total == D("-2554.3350")

    def test_the_article_rounds_every_fee_to_a_tenth(self) -> None:
        def fee(price: str, rate: Decimal) -> Decimal:
            return (D(price) * rate).quantize(TICK, ROUND_HALF_UP)

        cost = D("1000.0") + fee("1000.0", MAKER)
        assert D("1000.1") - fee("1000.1", MAKER) - cost == D("0.3")
        assert cost - (D("998.0") - fee("998.0", TAKER)) == D("2.1")
        assert cost - (D("998.1") - fee("998.1", MAKER)) == D("1.7")
        assert (cost + D("998.0") + fee("998.0", MAKER)) / 2 == D("998.9")


class TestAttributionVector:
    """MODEL 9: mids 100.0 100.2 99.9 100.1 100.4 and three fills, to the last digit."""

    MIDS = ("100.0", "100.2", "99.9", "100.1", "100.4")
    FILLS = (
        (1, Side.BUY, 2, "99.90", True),
        (2, Side.SELL, 1, "100.05", True),
        (3, Side.BUY, 1, "100.00", False),
    )

    def test_parts_and_total(self) -> None:
        ledger = Ledger(instrument("0.01"), FEES)
        for at, side, lots, price, maker in self.FILLS:
            ledger.fill(side, tick_of(price, "0.01"), lots, maker, D(self.MIDS[at]), at)
        assert ledger.mark(D("100.4")) == PnlView(
            total=D("1.059985"),
            spread=D("0.85"),
            inventory=D("0.2"),
            maker_fees=D(0),
            rebates=D("0.029985"),
            taker_fees=D("0.02"),
            funding=D(0),
            unexplained=D(0),
        )
        assert ledger.position_lots == 2
        assert ledger.max_abs_position_lots == 2
        assert (ledger.n_fills, ledger.volume_lots, ledger.last_fill_at) == (3, 4, 3)
        assert ledger.turnover == D("399.85")

    def test_horizons(self) -> None:
        markouts = Markouts((1 * NS_PER_S, 2 * NS_PER_S))
        for t, mid in enumerate(self.MIDS):
            markouts.learn(t * NS_PER_S, float(mid))
            for at, side, lots, price, _ in self.FILLS:
                if at == t:
                    markouts.fill(t * NS_PER_S, side, float(price), float(lots), float(mid))
        markouts.finish(100.4)
        spread, inventory = 0.85, 0.2
        for h, adverse, residual, realised in ((1, 0.5, 0.7, 0.35), (2, 0.4, 0.6, 0.45)):
            h_ns = h * NS_PER_S
            assert markouts.adverse(h_ns) == pytest.approx(adverse, abs=1e-12)
            assert inventory + markouts.adverse(h_ns) == pytest.approx(residual, abs=1e-12)
            assert markouts.realised(h_ns) == pytest.approx(realised, abs=1e-12)
            assert spread - markouts.adverse(h_ns) == pytest.approx(realised, abs=1e-12)
        assert markouts.values() == {
            "1s": pytest.approx(1e4 * 0.35 / 399.85, abs=1e-9),
            "2s": pytest.approx(1e4 * 0.45 / 399.85, abs=1e-9),
        }


class TestLedger:
    def test_an_inverse_contract_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not linear"):
            Ledger(instrument(linear=False), FEES)

    def test_a_new_ledger_is_all_zero(self) -> None:
        ledger = article()
        assert ledger.mark(D(100)) == PnlView(*[D(0)] * 8)
        assert ledger.average_cost is None
        assert ledger.equity(100.0) == 0.0

    def test_a_positive_maker_fee_is_a_cost(self) -> None:
        ledger = Ledger(instrument(), Fees(maker=D("0.0002"), taker=D("0.0005")))
        buy(ledger, "100")
        view = ledger.mark(D(100))
        assert (view.maker_fees, view.rebates, view.taker_fees) == (D("0.02"), D(0), D(0))
        assert view.total == D("-0.02")

    def test_a_negative_taker_fee_is_a_rebate(self) -> None:
        ledger = Ledger(instrument(), Fees(maker=D(0), taker=D("-0.0001")))
        sell(ledger, "100", maker=False)
        view = ledger.mark(D(100))
        assert (view.maker_fees, view.rebates, view.taker_fees) == (D(0), D("0.01"), D(0))
        assert view.total == D("0.01")

    def test_funding_is_paid_by_the_long(self) -> None:
        ledger = Ledger(instrument(), Fees(D(0), D(0)))
        ledger.fund(D("0.001"), D(100))
        assert ledger.mark(D(100)).funding == 0
        buy(ledger, "100", 3)
        ledger.fund(D("0.001"), D(101))
        assert ledger.mark(D(100)).funding == D("-0.303") == ledger.mark(D(100)).total
        assert ledger.equity(100.0) == pytest.approx(-0.303, abs=1e-12)
        sell(ledger, "100", 5)
        ledger.fund(D("0.001"), D(100))
        assert ledger.mark(D(100)).funding == D("-0.103")
        assert ledger.mark(D(100)).unexplained == 0

    def test_average_cost_through_reduction_flat_and_flip(self) -> None:
        ledger = article()
        buy(ledger, "1000.0", 3)
        sell(ledger, "1010.0")
        assert ledger.average_cost == D("999.9")  # reducing keeps it
        buy(ledger, "998.0")
        assert ledger.average_cost == (2 * D("999.9") + D("997.9002")) / 3
        sell(ledger, "1000.0", 3)
        assert ledger.average_cost is None
        buy(ledger, "998.0")
        assert ledger.average_cost == D("997.9002")
        sell(ledger, "1000.1", 5)  # flips: the revenue of the fill that flipped
        assert ledger.position_lots == -4
        assert ledger.average_cost == D("1000.20001")
        sell(ledger, "1000.0", 4)
        assert ledger.average_cost == (D("1000.20001") + D("1000.1")) / 2
        buy(ledger, "990.0", 2)
        assert ledger.average_cost == (D("1000.20001") + D("1000.1")) / 2
        assert ledger.max_abs_position_lots == 8
        buy(ledger, "990.0", 7)
        assert ledger.average_cost == D("989.901")
        assert ledger.mark(D(990)).unexplained == 0

    def test_fractional_lots(self) -> None:
        ledger = Ledger(instrument("0.01", "0.00001"), FEES)
        ledger.fill(Side.BUY, 6_500_000, 3, True, D("65000.005"), 1)
        assert ledger.turnover == D("1.95")
        assert ledger.average_cost == D("64993.5")
        assert ledger.mark(D("65000.005")).spread == D("0.00000015")

    def test_a_mid_of_many_digits_is_not_rounded(self) -> None:
        ledger = Ledger(instrument("0.1", "0.00001"), Fees(D(0), D(0)))
        mid = Decimal.from_float(100_000.1)  # 41 digits
        ledger.fill(Side.BUY, 1_000_000, 300_000, True, mid, 1)
        view = ledger.mark(mid)
        assert Fraction(view.spread) == Fraction(view.total) == 3 * (Fraction(mid) - 100_000)
        assert ledger.mark(mid + 1).unexplained == 0

    def test_marking_again_changes_nothing(self) -> None:
        ledger = article()
        buy(ledger, "1000.0", 2, mid="1000.5")
        before = repr(ledger)
        first = ledger.mark(D("1001"))
        for mid in ("900", "2000", "1001"):
            last = ledger.mark(D(mid))
        assert last == first
        assert repr(ledger) == before
        sell(ledger, "1000.0")
        assert ledger.mark(D("1000")).unexplained == 0

    def test_equity_of_floats_does_not_drift(self) -> None:
        ledger = Ledger(instrument("0.01", "0.001"), FEES)
        for i in range(2_000):
            ledger.fill(Side.BUY if i % 2 else Side.SELL, 10_000 + i % 7, 1, True, D(100), i)
        exact = ledger.mark(D(100)).total
        assert ledger.equity(100.0) == float(exact)  # flat: the cash alone, rounded once

    def test_a_fill_of_nothing_is_not_a_fill(self) -> None:
        with pytest.raises(AssertionError, match="0 lots"):
            article().fill(Side.BUY, 1, 0, True, D(1), 1)

    def test_repr(self) -> None:
        ledger = article()
        buy(ledger, "1000.0")
        assert repr(ledger) == (
            "Ledger(AB position_lots=1 cash=-999.90000 average_cost=999.90000 n_fills=1"
            " turnover=1000.0 funding=0 adopted=0)"
        )


class TestVenuesWord:
    """What the venue charged, paid and holds, in its own numbers."""

    def test_a_fee_in_quote_currency_is_that_amount(self) -> None:
        ledger = article()
        ledger.fill(Side.BUY, 10_000, 1, True, D(1000), 1, fee=D("0.3"), fee_currency="B")
        view = ledger.mark(D(1000))
        assert (view.maker_fees, view.rebates, view.total) == (D("0.3"), 0, D("-0.3"))
        assert ledger.average_cost == D("1000.3")
        assert ledger.base_fees == 0

    def test_a_rebate_is_a_negative_fee(self) -> None:
        ledger = article()
        ledger.fill(Side.SELL, 10_000, 2, True, D(1000), 1, fee=D("-0.5"), fee_currency="B")
        view = ledger.mark(D(1000))
        assert (view.maker_fees, view.rebates, view.total) == (0, D("0.5"), D("0.5"))
        assert ledger.average_cost == D("1000.25")

    def test_a_fee_in_base_currency_is_valued_at_the_fill_and_remembered(self) -> None:
        ledger = article()
        ledger.fill(Side.BUY, 10_000, 1, False, D(1000), 1, fee=D("0.001"), fee_currency="A")
        ledger.fill(Side.BUY, 20_000, 1, False, D(2000), 2, fee=D("0.002"), fee_currency="A")
        view = ledger.mark(D(2000))
        assert (view.taker_fees, ledger.base_fees) == (D(5), D("0.003"))
        assert view.unexplained == 0
        assert ledger.position_lots == 2  # the position is what was traded

    @pytest.mark.parametrize(("fee", "currency"), [(None, ""), (None, "B"), (D("0.01"), "BNB")])
    def test_otherwise_the_rate_stands_in(self, fee: Decimal | None, currency: str) -> None:
        ledger = article()
        ledger.fill(Side.BUY, 10_000, 1, True, D(1000), 1, fee=fee, fee_currency=currency)
        assert ledger.mark(D(1000)).rebates == D("0.1")
        assert ledger.base_fees == 0

    def test_no_fee_is_no_missing_fee(self) -> None:
        ledger = article()
        ledger.fill(Side.BUY, 10_000, 1, True, D(1000), 1, fee=D(0), fee_currency="B")
        assert ledger.mark(D(1000)).total == 0

    @pytest.mark.parametrize("lots", [5, -5, 0, 2, 3])
    def test_an_adopted_position_is_neither_profit_nor_loss(self, lots: int) -> None:
        ledger = article()
        buy(ledger, "1000.0", lots=2)
        before = ledger.mark(D("1003"))
        ledger.adopt(lots, D("1003"))
        assert ledger.position_lots == lots
        assert ledger.mark(D("1003")) == before
        view = ledger.mark(D("1010"))
        assert view.total - before.total == lots * D(7)
        assert view.unexplained == 0
        assert ledger.equity(1010.0) == pytest.approx(float(view.total))
        assert (ledger.n_fills, ledger.volume_lots, ledger.turnover) == (1, 2, 2000)
        assert ledger.max_abs_position_lots == max(2, abs(lots))

    def test_what_is_adopted_costs_its_price(self) -> None:
        ledger = article()
        ledger.adopt(4, D("1003"))
        assert ledger.average_cost == D("1003")
        ledger.adopt(-2, D("1001"))
        assert ledger.average_cost == D("1001")
        ledger.adopt(0, D("1000"))
        assert ledger.average_cost is None

    def test_funding_by_the_venues_word(self) -> None:
        ledger = article()
        ledger.receive_funding(D("-1.5"))
        ledger.receive_funding(D("0.25"))
        view = ledger.mark(D(1000))
        assert (view.funding, view.total, view.unexplained) == (D("-1.25"), D("-1.25"), 0)
        assert ledger.equity(1000.0) == -1.25


@dataclass(frozen=True)
class Fill:
    side: Side
    tick: int
    lots: int
    maker: bool
    mid: Decimal


@dataclass(frozen=True)
class Funding:
    rate: Decimal
    mid: Decimal


@dataclass(frozen=True)
class Adoption:
    lots: int
    mid: Decimal


@dataclass(frozen=True)
class Mark:
    mid: Decimal


ON_GRID = st.integers(1, 20_000_000).map(lambda half_ticks: D(half_ticks) * D("0.005"))
FROM_FLOAT = st.floats(0.01, 1e5).map(Decimal)  # up to 50 digits
MIDS = ON_GRID | FROM_FLOAT
RATES = st.integers(-75, 75).map(lambda n: D(n) * D("0.00001"))
STEPS = st.lists(
    st.builds(
        Fill,
        st.sampled_from(Side),
        st.integers(1, 10_000_000),
        st.integers(1, 10_000),
        st.booleans(),
        MIDS,
    )
    | st.builds(Funding, RATES, MIDS)
    | st.builds(Adoption, st.integers(-10_000, 10_000), ON_GRID)
    | st.builds(Mark, MIDS),
    max_size=40,
)


@given(steps=STEPS, maker=RATES, taker=RATES, final=MIDS)
@example(
    steps=[Fill(Side.BUY, 10, 3, True, D(1)), Fill(Side.SELL, 11, 7, False, D(2))],
    maker=MAKER,
    taker=TAKER,
    final=D(3),
)
@settings(deadline=None)
def test_identity_and_total_against_fractions(
    steps: list[Fill | Funding | Adoption | Mark], maker: Decimal, taker: Decimal, final: Decimal
) -> None:
    ledger = Ledger(instrument("0.01", "0.001"), Fees(maker, taker))
    cash = position = spread = inventory = turnover = funding = adopted = Fraction(0)
    widest = 0
    previous = Fraction(0)
    for step in steps:
        mid = Fraction(step.mid)
        inventory += position * (mid - previous)  # along every mid, not only those at fills
        previous = mid
        match step:
            case Mark():
                ledger.mark(step.mid)
            case Adoption():
                ledger.adopt(step.lots, step.mid)
                difference = Fraction(step.lots, 1000) - position
                cash -= difference * mid  # as if it had been bought there
                position += difference
                turnover += abs(difference) * mid
                adopted += abs(difference) * mid
                widest = max(widest, abs(step.lots))
            case Funding():
                ledger.fund(step.rate, step.mid)
                funding -= position * mid * Fraction(step.rate)
            case Fill():
                ledger.fill(step.side, step.tick, step.lots, step.maker, step.mid, 1)
                price, quantity = Fraction(step.tick, 100), Fraction(step.lots, 1000)
                fee = quantity * price * Fraction(maker if step.maker else taker)
                cash -= step.side * quantity * price + fee
                spread += step.side * quantity * (mid - price)
                position += step.side * quantity
                turnover += quantity * price
                widest = max(widest, abs(int(position * 1000)))
    view = ledger.mark(final)
    inventory += position * (Fraction(final) - previous)
    tolerance = Fraction(1, 10**20) * max(turnover, Fraction(1))
    assert abs(view.unexplained) <= tolerance
    assert abs(Fraction(view.total) - (cash + funding + position * Fraction(final))) <= tolerance
    assert abs(Fraction(view.spread) - spread) <= tolerance
    assert abs(Fraction(view.inventory) - inventory) <= tolerance
    assert abs(Fraction(view.funding) - funding) <= tolerance
    assert min(view.maker_fees, view.taker_fees, view.rebates) >= 0
    assert Fraction(ledger.turnover) == turnover - adopted
    assert ledger.position_lots == position * 1000
    assert ledger.max_abs_position_lots == widest
    scale = float(abs(cash) + abs(funding) + abs(position) * Fraction(final))
    assert ledger.equity(float(final)) == pytest.approx(float(view.total), abs=1e-14 * scale)


@given(
    steps=st.lists(
        st.builds(
            Fill,
            st.sampled_from(Side),
            st.integers(1, 10_000_000),
            st.integers(1, 10_000),
            st.booleans(),
            ON_GRID,
        ),
        max_size=40,
    ),
    final=ON_GRID,
)
@settings(deadline=None)
def test_nothing_is_unexplained_when_mids_are_on_the_half_tick(
    steps: list[Fill], final: Decimal
) -> None:
    ledger = Ledger(instrument("0.01", "0.001"), FEES)
    for s in steps:
        ledger.fill(s.side, s.tick, s.lots, s.maker, s.mid, 1)
        assert ledger.mark(s.mid).unexplained == 0
    assert ledger.mark(final).unexplained == 0


class TestMarkouts:
    def test_the_first_mid_at_or_after_the_horizon_counts(self) -> None:
        markouts = Markouts((NS_PER_S,))
        markouts.fill(0, Side.SELL, 100.0, 2.0, 99.9)
        markouts.learn(NS_PER_S - 1, 50.0)
        assert markouts.values() == {"1s": None}
        markouts.learn(NS_PER_S + 5, 99.0)
        markouts.learn(NS_PER_S + 6, 10.0)
        assert markouts.values() == {"1s": pytest.approx(100.0)}
        assert markouts.realised(NS_PER_S) == pytest.approx(2.0)
        assert markouts.adverse(NS_PER_S) == pytest.approx(-1.8)

    def test_exactly_at_the_horizon_is_due(self) -> None:
        markouts = Markouts((NS_PER_S,))
        markouts.fill(0, Side.BUY, 100.0, 1.0, 100.0)
        markouts.learn(NS_PER_S, 101.0)
        assert markouts.realised(NS_PER_S) == 1.0

    def test_default_horizons_come_due_one_after_the_other(self) -> None:
        markouts = Markouts()
        markouts.fill(7, Side.BUY, 100.0, 1.0, 100.0)
        known = []
        for s in (0, 1, 5, 30, 300):
            markouts.learn(7 + s * NS_PER_S, 100.0 + s)
            known.append([k for k, v in markouts.values().items() if v is not None])
        assert known == [[], ["1s"], ["1s", "5s"], ["1s", "5s", "30s"], ["1s", "5s", "30s", "300s"]]
        values = [v for v in markouts.values().values() if v is not None]
        assert values == pytest.approx([100.0, 500.0, 3000.0, 30000.0])

    def test_fills_weigh_by_notional(self) -> None:
        markouts = Markouts((NS_PER_S,))
        markouts.fill(0, Side.BUY, 100.0, 3.0, 100.0)
        markouts.fill(1, Side.SELL, 200.0, 1.0, 100.0)
        markouts.learn(2 * NS_PER_S, 101.0)
        assert markouts.values() == {"1s": pytest.approx(1e4 * (3 + 99) / 500)}

    def test_a_later_fill_waits_for_its_own_time(self) -> None:
        markouts = Markouts((NS_PER_S,))
        markouts.fill(0, Side.BUY, 100.0, 1.0, 100.0)
        markouts.fill(10, Side.BUY, 100.0, 1.0, 100.0)
        markouts.learn(NS_PER_S, 101.0)
        assert markouts.realised(NS_PER_S) == 1.0
        markouts.learn(NS_PER_S + 10, 105.0)
        assert markouts.realised(NS_PER_S) == 6.0

    def test_finish_uses_the_final_mid_and_only_once(self) -> None:
        markouts = Markouts((NS_PER_S, 2 * NS_PER_S))
        markouts.fill(0, Side.BUY, 100.0, 1.0, 100.0)
        markouts.learn(NS_PER_S, 101.0)
        markouts.finish(103.0)
        markouts.finish(999.0)
        assert [markouts.realised(h * NS_PER_S) for h in (1, 2)] == [1.0, 3.0]

    def test_waiting_fills_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledger_module, "WAITING_FILLS_MAX", 2)
        markouts = Markouts((NS_PER_S,))
        for i in range(3):
            markouts.fill(i, Side.BUY, 100.0, 1.0, 100.0 + i)
        assert markouts.n_early == 1
        assert markouts.realised(NS_PER_S) == 2.0
        assert "waiting={1000000000: 2}, n_early=1" in repr(markouts)

    @pytest.mark.parametrize("horizons", [(), (0,), (-1, 5), (5, 5)])
    def test_bad_horizons_are_refused(self, horizons: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="positive and distinct"):
            Markouts(horizons)

    def test_a_horizon_not_followed(self) -> None:
        with pytest.raises(KeyError):
            Markouts().adverse(17)
