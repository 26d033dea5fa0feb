"""Money against the sums that it must obey, whatever is traded."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bot.domain.account import Balance
from bot.domain.instrument import Fees
from bot.domain.units import Side
from bot.sim.wallet import MarginWallet, SpotWallet
from tests.shell.fakemarket import SPOT, USDM

BUY, SELL = Side.BUY, Side.SELL
FEES = Fees(Decimal("0.0002"), Decimal("0.0005"))
RICH = {"USDT": Decimal(1_000_000), "BTC": Decimal(100)}
FILLS = st.lists(
    st.tuples(
        st.sampled_from(Side), st.integers(500_000, 700_000), st.integers(1, 999), st.booleans()
    ),
    max_size=30,
)


@given(FILLS)
def test_a_margin_account_adds_up(fills: list[tuple[Side, int, int, bool]]) -> None:
    wallet = MarginWallet(USDM, FEES, RICH)
    cash, lots, fees, realized = Decimal(1_000_000), 0, Decimal(0), Decimal(0)
    for side, tick, size, maker in fills:
        booked = wallet.book(side, tick * size, size, maker=maker)
        cash -= side * USDM.price(tick) * USDM.quantity(size)
        lots += side * size
        fees += booked.commission
        realized += booked.realized
        assert booked.asset == "USDT"
        mark = 610_000
        position, margin = wallet.position(mark), wallet.margin(mark)
        assert position.lots == wallet.lots == lots
        equity = cash + USDM.quantity(lots) * USDM.price(mark) - fees
        assert margin.wallet + margin.unrealized == equity
        assert margin.wallet == RICH["USDT"] + realized - fees
        assert position.realized == realized
        if lots == 0:
            assert position.entry == position.unrealized == 0


def test_a_position_is_averaged_reduced_and_turned() -> None:
    wallet = MarginWallet(USDM, FEES, RICH)
    wallet.book(BUY, 600_000 * 10, 10, maker=True)
    wallet.book(BUY, 610_000 * 10, 10, maker=True)
    assert wallet.position(610_000).entry == Decimal("60500")
    closed = wallet.book(SELL, 615_000 * 5, 5, maker=False)
    assert closed.realized == Decimal("5.000")  # 0.005 at 1,000 above its entry
    assert closed.commission == Decimal("0.15375")  # 0.05 % of 307.5
    assert wallet.position(610_000).entry == Decimal("60500")
    turned = wallet.book(SELL, 600_000 * 20, 20, maker=False)
    assert turned.realized == Decimal("-7.500")
    assert (wallet.lots, wallet.position(600_000).entry) == (-5, Decimal("60000"))


def test_margin_is_asked_for_what_adds_to_the_worse_side() -> None:
    wallet = MarginWallet(USDM, FEES, {"USDT": Decimal(3_000)})
    most = 20 * 3_000  # quote, at a leverage of 20
    lots = int(most / Decimal("60"))
    assert wallet.affords(BUY, 600_000 * lots, lots, 600_000)
    assert not wallet.affords(BUY, 600_000 * (lots + 1), lots + 1, 600_000)
    wallet.reserve(BUY, 600_000 * lots, lots)
    assert not wallet.affords(BUY, 600_000, 1, 600_000)
    assert wallet.affords(SELL, 600_000 * lots, lots, 600_000)  # only one of the sides can count
    assert wallet.margin(600_000).available == 0
    wallet.release(BUY, 600_000 * lots, lots)
    wallet.book(BUY, 600_000 * lots, lots, maker=True)
    assert not wallet.affords(BUY, 600_000, 1, 590_000)
    assert wallet.affords(SELL, 600_000 * lots, lots, 590_000)  # closing is always possible


@given(FILLS)
def test_spot_balances_follow_the_trades(fills: list[tuple[Side, int, int, bool]]) -> None:
    wallet = SpotWallet(SPOT, FEES, RICH)
    quote, base = RICH["USDT"], RICH["BTC"]
    for side, tick, lots, maker in fills:
        wallet.reserve(side, tick * lots, lots)
        wallet.release(side, tick * lots, lots)
        booked = wallet.book(side, tick * lots, lots, maker=maker)
        quote -= side * SPOT.price(tick) * SPOT.quantity(lots)
        base += side * SPOT.quantity(lots)
        if side is BUY:
            base -= booked.commission
        else:
            quote -= booked.commission
        assert booked.asset == ("BTC" if side is BUY else "USDT")
        assert booked.realized == 0
        assert wallet.balances() == (Balance("BTC", base), Balance("USDT", quote))
        assert wallet.position(tick) is None


def test_spot_locks_what_an_order_may_spend() -> None:
    wallet = SpotWallet(SPOT, FEES, {"USDT": Decimal(600), "BTC": Decimal("0.01")})
    value, lots = 6_000_000 * 1_000, 1_000  # 0.01 at 60,000
    assert wallet.affords(BUY, value, lots, 0)
    assert not wallet.affords(BUY, value + 1, lots, 0)
    assert not wallet.affords(SELL, value, lots + 1, 0)
    wallet.reserve(BUY, value, lots)
    assert wallet.balances()[1] == Balance("USDT", Decimal(0), Decimal(600))
    assert not wallet.affords(BUY, 1, 1, 0)
    assert wallet.affords(SELL, value, lots, 0)
