"""A client's place at the simulated venue: his keys, and the account behind them."""

from collections.abc import Sequence
from typing import Protocol

from bot.domain.account import (
    AccountOrder,
    AccountTrade,
    Balance,
    Income,
    Margin,
    NewOrder,
    News,
    Position,
    Refusal,
)
from bot.domain.instrument import Fees
from bot.venues.binance.limits import OrderCounts
from bot.venues.binance.userstream import UserStream


class Wallet(Protocol):
    """The money of an account."""

    def balances(self) -> tuple[Balance, ...]: ...


class Account(Protocol):
    """What the API asks of one; `now` is the market's time in ns, `due` and `wall` are ms."""

    fees: Fees

    @property
    def wallet(self) -> Wallet: ...
    @property
    def leverage(self) -> int: ...
    @property
    def trades(self) -> Sequence[AccountTrade]: ...
    @property
    def incomes(self) -> Sequence[Income]: ...

    def place(self, now: int, wanted: NewOrder) -> AccountOrder | Refusal: ...
    def cancel(self, now: int, order_id: int, request_id: str = "") -> AccountOrder | Refusal: ...
    def cancel_all(self, now: int) -> list[AccountOrder]: ...
    def amend(
        self, now: int, order_id: int, lots: int, client_id: str
    ) -> AccountOrder | Refusal: ...
    def modify(self, now: int, order_id: int, tick: int, lots: int) -> AccountOrder | Refusal: ...
    def set_leverage(self, leverage: int) -> None: ...
    def arm(self, due: int | None) -> None: ...
    def tend(self, now: int, wall: int) -> None: ...
    def drain(self) -> list[News]: ...
    def find(self, order_id: int | None, client_id: str | None) -> AccountOrder | None: ...
    def open_orders(self) -> list[AccountOrder]: ...
    def orders(self) -> list[AccountOrder]: ...
    def mark(self) -> int: ...
    def position(self) -> Position | None: ...
    def margin(self) -> Margin: ...


class Seat:
    """One key with its account; `may_trade` and the like are what its owner allowed it to do."""

    def __init__(self, venue: str, key: str, secret: str, account: Account) -> None:
        self.key = key
        self.secret = secret
        self.account = account
        self.counts = OrderCounts(venue)
        self.stream = UserStream(venue, key)
        self.may_trade = True
        self.may_withdraw = False
        self.ip_restricted = True
        self._serial = 0  # of the ids that the venue makes up

    def new_id(self, what: str) -> str:
        """A client id that nobody chose."""
        self._serial += 1
        return f"{what}_{self._serial:012d}"

    def __repr__(self) -> str:
        return f"<Seat {self.key} {self.account!r}>"
