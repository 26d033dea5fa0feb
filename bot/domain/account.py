"""An account in a venue's own books: its orders, trades and balances, and what may be refused.

The simulated exchange keeps these records, the venue's language writes them down. Prices are
ticks, quantities lots, `value` sums of ticks x lots, times wall-clock ms, money Decimal.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from bot.domain.units import Side


class SelfTrade(StrEnum):
    """What happens instead of a trade between two orders of one owner."""

    NONE = "NONE"  # they trade
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"


class Kind(StrEnum):
    """Order types; spot says post-only by a type, USD-M by a time in force."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIMIT_MAKER = "LIMIT_MAKER"


class InForce(StrEnum):
    """How long an order stays."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"


class Status(StrEnum):
    """Where an order is in its life."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


class ExecutionType(StrEnum):
    """What happened to an order, as the venue's reports have it."""

    NEW = "NEW"
    TRADE = "TRADE"
    REDUCED = "REDUCED"  # fewer lots, in its place
    MOVED = "MOVED"  # another price or size, behind the others
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    PREVENTED = "PREVENTED"  # would have traded with its owner


class Refusal(StrEnum):
    """Why an account does not do what it was asked for."""

    INSUFFICIENT = "the balance or margin does not suffice"
    DUPLICATE = "an open order has this client id"
    WOULD_MATCH = "a post-only order would match"
    UNFILLABLE = "a fill-or-kill order cannot be filled at once"
    TOO_MANY = "too many orders are open"
    NOT_REDUCING = "a reduce-only order would not reduce the position"
    UNKNOWN_ORDER = "no such order is open"
    NOT_SMALLER = "an amended order must shrink, to more than it filled"
    UNCHANGED = "a modified order must differ"
    TOO_OFTEN = "an order was modified too often"
    EMPTY_BOOK = "a market order finds nobody"


class NewOrder(msgspec.Struct, frozen=True):
    """An order as its owner wants it; `tick` is 0 for a market order."""

    side: Side
    tick: int
    lots: int
    client_id: str
    kind: Kind = Kind.LIMIT
    in_force: InForce = InForce.GTC
    self_trade: SelfTrade = SelfTrade.NONE
    reduce_only: bool = False

    @property
    def post_only(self) -> bool:
        return self.kind is Kind.LIMIT_MAKER or self.in_force is InForce.GTX


class AccountOrder(msgspec.Struct, frozen=True):
    """An order as the venue has it.

    `client_id` changes when an amendment says so, `changes` counts the modifications.
    """

    order_id: int
    client_id: str
    wanted: NewOrder
    tick: int
    lots: int
    status: Status
    filled: int
    value: int
    created: int
    updated: int
    changes: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in (Status.NEW, Status.PARTIALLY_FILLED)


class AccountTrade(msgspec.Struct, frozen=True):
    """One execution; `realized` is what it made of a position, before the commission."""

    trade_id: int
    order_id: int
    side: Side
    tick: int
    lots: int
    maker: bool
    commission: Decimal
    asset: str  # of the commission
    realized: Decimal
    at: int


class Balance(msgspec.Struct, frozen=True):
    """What is owned of an asset: `locked` is bound by orders, and 0 where margin is used."""

    asset: str
    free: Decimal
    locked: Decimal = Decimal(0)


class Position(msgspec.Struct, frozen=True):
    """A one-way position; `realized` sums what it made, before commissions."""

    lots: int
    entry: Decimal  # price, 0 when flat
    mark: Decimal  # price
    unrealized: Decimal
    realized: Decimal


class Margin(msgspec.Struct, frozen=True):
    """How a margin account stands, in its quote currency."""

    wallet: Decimal
    unrealized: Decimal
    position_margin: Decimal
    order_margin: Decimal
    maintenance: Decimal
    available: Decimal


class Income(msgspec.Struct, frozen=True):
    """One booking of a margin account."""

    number: int
    kind: str  # TRANSFER, REALIZED_PNL, COMMISSION or FUNDING_FEE
    amount: Decimal
    asset: str
    at: int
    trade_id: int = 0


class OrderNews(msgspec.Struct, frozen=True):
    """An order came to be, traded, changed or ended; the records are those of that moment.

    `request_id` is the client id of the request that did it, where there was one.
    """

    execution: ExecutionType
    order: AccountOrder
    at: int
    trade: AccountTrade | None = None
    request_id: str = ""


class BalanceNews(msgspec.Struct, frozen=True):
    """Balances changed, and the position where there is one.

    `reason` is ORDER, FUNDING_FEE or DEPOSIT; `delta` is the amount where no order did it.
    """

    reason: str
    balances: tuple[Balance, ...]
    position: Position | None
    at: int
    delta: Decimal = Decimal(0)


News = OrderNews | BalanceNews
