"""Position, cash and where the profit came from. Money is Decimal, computed per fill.

`mark` attributes the profit by MODEL 9 and also states the total computed on its own, as
cash + position x mark, so that a lost or doubled part shows up as `unexplained`.
"""

from collections import deque
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Final

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_S, Side
from bot.domain.view import PnlView

# A mid that was a float has up to 50 digits; the default 28 would round it away.
MONEY: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)

HORIZONS_NS: Final = (1 * NS_PER_S, 5 * NS_PER_S, 30 * NS_PER_S, 300 * NS_PER_S)
# Fills waiting for one horizon; 218 fills a second for five minutes.
WAITING_FILLS_MAX: Final = 65_536
_NEVER: Final = 2**63 - 1

_ZERO: Final = Decimal(0)


def effective_cost(price: Decimal, fee_rate: Decimal) -> Decimal:
    """What a unit bought at `price` really costs, in quote currency (MODEL 1.1).

    `fee_rate` is a signed fraction of notional: positive a fee, negative a rebate.
    """
    with localcontext(MONEY):
        return price * (1 + fee_rate)


def effective_revenue(price: Decimal, fee_rate: Decimal) -> Decimal:
    """What a unit sold at `price` really brings, in quote currency (MODEL 1.1)."""
    with localcontext(MONEY):
        return price * (1 - fee_rate)


def break_even_ask(average_cost: Decimal, fee_rate: Decimal) -> Decimal:
    """Price at which a sale returns exactly `average_cost` (MODEL 1.1); off the grid."""
    with localcontext(MONEY):
        return average_cost / (1 - fee_rate)


def break_even_ask_tick(average_cost: Decimal, fee_rate: Decimal, tick: Decimal) -> int:
    """Lowest tick at which a sale does not lose against `average_cost`.

    The nearest tick may lie below: in the example of MODEL 1.1 it loses 0.00022 a unit.
    """
    with localcontext(MONEY):
        ticks = average_cost / (tick * (1 - fee_rate))
        return int(ticks.to_integral_value(ROUND_CEILING))


class Ledger:
    """One linear instrument's position and profit, from zero. Money in quote currency."""

    __slots__ = (
        "_adopted",
        "_cash",
        "_cash_float",
        "_fees",
        "_funding",
        "_instrument",
        "_inventory",
        "_last_mid",
        "_maker_fees",
        "_open_value",
        "_position_float",
        "_rebates",
        "_spread",
        "_taker_fees",
        "base_fees",
        "last_fill_at",
        "max_abs_position_lots",
        "n_fills",
        "position_lots",
        "turnover",
        "volume_lots",
    )

    def __init__(self, instrument: Instrument, fees: Fees) -> None:
        """Raises ValueError for an inverse contract, whose PnL is not cash + q m."""
        if not instrument.linear:
            raise ValueError(f"{instrument.venue} {instrument.symbol} is not linear")
        self._instrument = instrument
        self._fees = fees
        self.position_lots = 0
        self.max_abs_position_lots = 0
        self.n_fills = 0
        self.volume_lots = 0
        self.turnover = _ZERO  # sum of n p
        self.last_fill_at = 0  # ns, 0 before the first fill
        self.base_fees = _ZERO  # charged in base currency, which the position does not show
        self._cash = _ZERO
        self._adopted = _ZERO  # less the value of what was adopted, as if it had been bought
        self._open_value = _ZERO  # effective value of the open position, >= 0
        self._last_mid = _ZERO  # at the latest fill
        self._spread = _ZERO
        self._inventory = _ZERO  # up to the latest fill
        self._maker_fees = _ZERO
        self._rebates = _ZERO
        self._taker_fees = _ZERO
        self._funding = _ZERO
        self._cash_float = 0.0
        self._position_float = 0.0

    def fill(
        self,
        side: Side,
        tick: int,
        lots: int,
        maker: bool,
        mid: Decimal,
        now: int,
        *,
        fee: Decimal | None = None,
        fee_currency: str = "",
    ) -> None:
        """Book one execution of `lots` > 0 at `tick`; `mid` is the mid just before it.

        `fee` is what the venue took, negative for a rebate. In base currency it is valued at
        the price of the fill. In any other than base and quote, or when the venue did not
        say, the rate of the fee tier stands in.
        """
        assert lots > 0, f"a fill of {lots} lots"
        with localcontext(MONEY):
            price = self._instrument.price(tick)
            quantity = self._instrument.quantity(lots)
            notional = quantity * price
            rate = self._fees.maker if maker else self._fees.taker
            cost = notional * rate
            if fee is not None and fee_currency == self._instrument.quote:
                cost, rate = fee, fee / notional
            elif fee is not None and fee_currency == self._instrument.base:
                cost, rate = fee * price, fee / quantity
                self.base_fees += fee

            held = self._instrument.quantity(self.position_lots)
            self._inventory += held * (mid - self._last_mid)
            self._last_mid = mid
            self._spread += side * quantity * (mid - price)
            self._charge(cost, maker)
            self._cash -= side * notional + cost
            self.turnover += notional
            self._move_position(side, lots, price, rate)
        self.n_fills += 1
        self.volume_lots += lots
        self.last_fill_at = now
        self._mirror()

    def adopt(self, lots: int, price: Decimal) -> None:
        """Take `lots` for the whole position; the difference is valued at `price`.

        It is neither profit nor loss: as if it had been bought there, without a fee.
        """
        with localcontext(MONEY):
            difference = lots - self.position_lots
            held = self._instrument.quantity(self.position_lots)
            self._inventory += held * (price - self._last_mid)
            self._last_mid = price
            self._adopted -= self._instrument.quantity(difference) * price
            if difference:
                side = Side.BUY if difference > 0 else Side.SELL
                self._move_position(side, abs(difference), price, _ZERO)
        self._mirror()

    def fund(self, rate: Decimal, mark: Decimal) -> None:
        """Book a funding payment -q m f: a long pays a positive `rate` (MODEL 9)."""
        with localcontext(MONEY):
            self.receive_funding(-self._instrument.quantity(self.position_lots) * mark * rate)

    def receive_funding(self, amount: Decimal) -> None:
        """Book a funding payment by the venue's word; positive is received."""
        with localcontext(MONEY):
            self._funding += amount
            self._cash += amount
        self._mirror()

    def mark(self, mid: Decimal) -> PnlView:
        """The attribution of MODEL 9 with the position valued at `mid`; changes nothing."""
        with localcontext(MONEY):
            held = self._instrument.quantity(self.position_lots)
            total = self._cash + self._adopted + held * mid
            inventory = self._inventory + held * (mid - self._last_mid)
            costs = self._maker_fees + self._taker_fees - self._rebates
            explained = self._spread + inventory - costs + self._funding
            return PnlView(
                total=total,
                spread=self._spread,
                inventory=inventory,
                maker_fees=self._maker_fees,
                rebates=self._rebates,
                taker_fees=self._taker_fees,
                funding=self._funding,
                unexplained=total - explained,
            )

    def equity(self, mid: float) -> float:
        """`mark(mid).total` in floats: cheap, and mirrored anew from the Decimals by each fill."""
        return self._cash_float + self._position_float * mid

    @property
    def average_cost(self) -> Decimal | None:
        """Weighted average effective price of the open position, fees included; None if flat.

        A cost for a long position, a revenue for a short one. Reducing keeps it, a flip
        starts anew at the fill that flipped.
        """
        if self.position_lots == 0:
            return None
        with localcontext(MONEY):
            return self._open_value / abs(self._instrument.quantity(self.position_lots))

    def _charge(self, fee: Decimal, maker: bool) -> None:
        if fee < 0:
            self._rebates -= fee
        elif maker:
            self._maker_fees += fee
        else:
            self._taker_fees += fee

    def _move_position(self, side: Side, lots: int, price: Decimal, rate: Decimal) -> None:
        before = self.position_lots
        after = before + side * lots
        effective = price * (1 + side * rate)
        if before * side >= 0:
            self._open_value += effective * self._instrument.quantity(lots)
        elif before * after > 0:
            self._open_value = self._open_value * abs(after) / abs(before)
        else:
            self._open_value = effective * abs(self._instrument.quantity(after))
        self.position_lots = after
        self.max_abs_position_lots = max(self.max_abs_position_lots, abs(after))

    def _mirror(self) -> None:
        with localcontext(MONEY):
            self._cash_float = float(self._cash + self._adopted)
        self._position_float = float(self._instrument.quantity(self.position_lots))

    def __repr__(self) -> str:
        return (
            f"Ledger({self._instrument.symbol} position_lots={self.position_lots}"
            f" cash={self._cash} average_cost={self.average_cost} n_fills={self.n_fills}"
            f" turnover={self.turnover} funding={self._funding} adopted={self._adopted})"
        )


class _Horizon:
    """Sums over the fills whose mid at fill time + `after_ns` is known."""

    __slots__ = ("adverse", "after_ns", "notional", "realised", "waiting")

    def __init__(self, after_ns: int) -> None:
        self.after_ns = after_ns
        # (fill time in ns, signed quantity, price, mid at the fill), oldest first
        self.waiting: deque[tuple[int, float, float, float]] = deque()
        self.adverse = 0.0
        self.realised = 0.0
        self.notional = 0.0

    def due(self) -> int:
        return self.waiting[0][0] + self.after_ns if self.waiting else _NEVER

    def sample(self, mid: float) -> None:
        _, signed, price, mid_at_fill = self.waiting.popleft()
        self.adverse -= signed * (mid - mid_at_fill)
        self.realised += signed * (mid - price)
        self.notional += abs(signed) * price


class Markouts:
    """What the mid did after our fills (MODEL 9): floats, in quote currency and bps.

    Times never go back and every `mid` is finite: an untrusted book teaches nothing.
    """

    __slots__ = ("_due", "_horizons", "n_early")

    def __init__(self, horizons_ns: Sequence[int] = HORIZONS_NS) -> None:
        """Raises ValueError for a horizon that is not positive or stated twice."""
        self._horizons = {h: _Horizon(h) for h in horizons_ns}
        if len(self._horizons) != len(horizons_ns) or min(horizons_ns, default=0) <= 0:
            raise ValueError(f"horizons must be positive and distinct: {horizons_ns}")
        self._due = _NEVER
        self.n_early = 0  # samples taken before their time because too many fills waited

    def fill(self, now: int, side: Side, price: float, qty: float, mid: float) -> None:
        """Follow one fill of `qty` base currency; `mid` is the mid just before it."""
        waiting = (now, side * qty, price, mid)
        for horizon in self._horizons.values():
            if len(horizon.waiting) >= WAITING_FILLS_MAX:
                horizon.sample(mid)
                self.n_early += 1
            horizon.waiting.append(waiting)
        self._due = self._next_due()

    def learn(self, now: int, mid: float) -> None:
        """Sample `mid` for every fill whose horizon has passed by `now`."""
        if now < self._due:
            return
        for horizon in self._horizons.values():
            while horizon.due() <= now:
                horizon.sample(mid)
        self._due = self._next_due()

    def finish(self, mid: float) -> None:
        """End of the run: the final mid stands for every horizon not reached."""
        for horizon in self._horizons.values():
            while horizon.waiting:
                horizon.sample(mid)
        self._due = _NEVER

    def values(self) -> dict[str, float | None]:
        """Markout in bps by horizon ("1s"), 1e4 sum s n (m_h - p) / sum n p.

        Positive is a gain; None before the first sample.
        """
        return {
            f"{h.after_ns / NS_PER_S:g}s": 1e4 * h.realised / h.notional if h.notional else None
            for h in self._horizons.values()
        }

    def adverse(self, horizon_ns: int) -> float:
        """AS_h = -sum s n (m_h - m_i): the cost of adverse selection, sampled fills only.

        Raises KeyError for a horizon that is not followed.
        """
        return self._horizons[horizon_ns].adverse

    def realised(self, horizon_ns: int) -> float:
        """REALISED_h = sum s n (m_h - p_i): the realised spread, sampled fills only."""
        return self._horizons[horizon_ns].realised

    def _next_due(self) -> int:
        return min(horizon.due() for horizon in self._horizons.values())

    def __repr__(self) -> str:
        waiting = {h.after_ns: len(h.waiting) for h in self._horizons.values()}
        return f"Markouts({self.values()}, waiting={waiting}, n_early={self.n_early})"
