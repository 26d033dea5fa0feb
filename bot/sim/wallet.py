"""The money of one account at the simulated exchange: spot balances, or a margin account.

Both know three movements: an open order reserves, what leaves the book is released, a trade
is booked. Amounts are exact to eight decimals, the venue's smallest unit. `value` is ticks x
lots; a wallet knows what one is worth.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NamedTuple, Protocol

from bot.domain.account import Balance, Margin, Position
from bot.domain.instrument import Fees, Instrument
from bot.domain.units import Side

LEVERAGE: Final = 20
MAINTENANCE: Final = Decimal("0.004")  # of the position's notional, as in the first bracket

_ZERO: Final = Decimal(0)
_ATOM: Final = Decimal("1e-8")


class Booked(NamedTuple):
    """What a trade cost and made."""

    commission: Decimal
    asset: str
    realized: Decimal


class Wallet(Protocol):
    """What an account asks of its money; `mark` is the mark price in ticks."""

    def affords(self, side: Side, value: int, lots: int, mark: int) -> bool: ...
    def reserve(self, side: Side, value: int, lots: int) -> None: ...
    def release(self, side: Side, value: int, lots: int) -> None: ...
    def book(self, side: Side, value: int, lots: int, *, maker: bool) -> Booked: ...
    def balances(self) -> tuple[Balance, ...]: ...
    def position(self, mark: int) -> Position | None: ...


class SpotWallet:
    """Two assets; buys bind the quote at the order's price, sells the base.

    The fee is taken from what is received: the base of a buy, the quote of a sell.
    """

    def __init__(self, instrument: Instrument, fees: Fees, deposits: Mapping[str, Decimal]) -> None:
        self._instrument = instrument
        self._fees = fees
        self._worth = instrument.tick * instrument.lot
        self._free = {asset: _ZERO for asset in (instrument.base, instrument.quote)} | dict(
            deposits
        )
        self._locked = dict.fromkeys(self._free, _ZERO)

    def _given(self, side: Side, value: int, lots: int) -> tuple[str, Decimal]:
        """The asset that an order of a side pays with, and how much."""
        if side is Side.BUY:
            return self._instrument.quote, self._worth * value
        return self._instrument.base, self._instrument.quantity(lots)

    def affords(self, side: Side, value: int, lots: int, mark: int) -> bool:
        """Whether what is free covers an order."""
        asset, amount = self._given(side, value, lots)
        return amount <= self._free[asset]

    def reserve(self, side: Side, value: int, lots: int) -> None:
        """Bind what an open order may spend."""
        asset, amount = self._given(side, value, lots)
        self._free[asset] -= amount
        self._locked[asset] += amount

    def release(self, side: Side, value: int, lots: int) -> None:
        """Free what an order no longer may spend."""
        asset, amount = self._given(side, value, lots)
        self._free[asset] += amount
        self._locked[asset] -= amount

    def book(self, side: Side, value: int, lots: int, *, maker: bool) -> Booked:
        """Exchange the two assets."""
        paid, amount = self._given(side, value, lots)
        got, received = self._given(Side(-side), value, lots)
        rate = self._fees.maker if maker else self._fees.taker
        commission = (received * rate).quantize(_ATOM, ROUND_HALF_EVEN)
        self._free[paid] -= amount
        self._free[got] += received - commission
        return Booked(commission, got, _ZERO)

    def deposit(self, asset: str, amount: Decimal) -> None:
        """Add to, or with a negative amount take from, what is free."""
        self._free[asset] = self._free.get(asset, _ZERO) + amount
        self._locked.setdefault(asset, _ZERO)

    def balances(self) -> tuple[Balance, ...]:
        """Every asset."""
        return tuple(
            Balance(asset, free, self._locked[asset]) for asset, free in self._free.items()
        )

    def position(self, mark: int) -> None:
        """There is none: what is owned is a balance."""
        return None

    def __repr__(self) -> str:
        return f"<SpotWallet {self._free} locked={self._locked}>"


class MarginWallet:
    """One quote asset that backs a one-way position and its orders, cross margined."""

    def __init__(self, instrument: Instrument, fees: Fees, deposits: Mapping[str, Decimal]) -> None:
        self._quote = instrument.quote
        self._fees = fees
        self._worth = instrument.tick * instrument.lot
        self._tick = instrument.tick
        self._wallet = deposits.get(self._quote, _ZERO)
        self._cost = _ZERO  # of the position, signed
        self._realized = _ZERO
        self._lots = {Side.BUY: 0, Side.SELL: 0}  # of open orders
        self._values = {Side.BUY: 0, Side.SELL: 0}
        self.leverage = LEVERAGE
        self.lots = 0

    def _margin(self, mark: int, bids: int, asks: int) -> Decimal:
        """Initial margin of the position with the worse side's orders, their values given."""
        position = self.lots * mark
        worst = max(abs(position + bids), abs(position - asks), abs(position))
        return self._worth * worst / self.leverage

    def affords(self, side: Side, value: int, lots: int, mark: int) -> bool:
        """Whether the margin covers an order; one that needs none is always possible."""
        bids, asks = self._values[Side.BUY], self._values[Side.SELL]
        before = self._margin(mark, bids, asks)
        more = (bids + value, asks) if side is Side.BUY else (bids, asks + value)
        after = self._margin(mark, *more)
        return after <= before or after <= self._equity(mark)

    def _equity(self, mark: int) -> Decimal:
        return self._wallet + self._worth * self.lots * mark - self._cost

    def reserve(self, side: Side, value: int, lots: int) -> None:
        """Count an open order."""
        self._lots[side] += lots
        self._values[side] += value

    def release(self, side: Side, value: int, lots: int) -> None:
        """Forget (a part of) an open order."""
        self._lots[side] -= lots
        self._values[side] -= value

    def book(self, side: Side, value: int, lots: int, *, maker: bool) -> Booked:
        """Move the position; what closes is realized against its average entry."""
        worth = self._worth * value
        rate = self._fees.maker if maker else self._fees.taker
        commission = (worth * rate).quantize(_ATOM, ROUND_HALF_EVEN)
        closing = min(lots, abs(self.lots)) if self.lots * side < 0 else 0
        realized = _ZERO
        if closing:
            closed = worth * closing / lots
            cost = self._cost * closing / abs(self.lots)
            realized = (-side * closed - cost).quantize(_ATOM, ROUND_HALF_EVEN)
            # What rounding took from the realized stays in the rest of the position.
            self._cost += side * worth + realized
        else:
            self._cost += side * worth
        self.lots += side * lots
        if self.lots == 0:
            realized -= self._cost
            self._cost = _ZERO
        self._realized += realized
        self._wallet += realized - commission
        return Booked(commission, self._quote, realized)

    def deposit(self, asset: str, amount: Decimal) -> None:
        """Add to the wallet."""
        assert asset == self._quote
        self._wallet += amount

    def balances(self) -> tuple[Balance, ...]:
        """The wallet, without what is not realized."""
        return (Balance(self._quote, self._wallet),)

    def position(self, mark: int) -> Position:
        """The position at a mark."""
        per_lot = self._worth / self._tick
        entry = self._cost / (self.lots * per_lot) if self.lots else _ZERO
        unrealized = self._worth * self.lots * mark - self._cost
        return Position(self.lots, entry, self._tick * mark, unrealized, self._realized)

    def margin(self, mark: int) -> Margin:
        """How the account stands at a mark."""
        held = self._margin(mark, 0, 0)
        needed = self._margin(mark, self._values[Side.BUY], self._values[Side.SELL])
        unrealized = self._worth * self.lots * mark - self._cost
        free = self._wallet + unrealized - needed
        return Margin(
            self._wallet,
            unrealized,
            held,
            needed - held,
            self._worth * abs(self.lots) * mark * MAINTENANCE,
            max(free, _ZERO),
        )

    def __repr__(self) -> str:
        return f"<MarginWallet {self._wallet} {self._quote} lots={self.lots}>"
