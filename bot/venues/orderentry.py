"""The words between the gateway and a venue's order codec: requests, reports, refusals. Pure.

A codec turns an intent into a `Call` and the venue's answer into reports; the gateway sends the
calls and knows nothing of the venue's fields. Prices are ticks, quantities lots, times ns.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Protocol

import msgspec

from bot.domain.decisions import Amend, Place
from bot.domain.events import AccountEvent, OwnEvent
from bot.domain.instrument import Fees, Instrument
from bot.domain.units import Side


class Priority(IntEnum):
    """Who goes first when the budget is short; cancels bypass every gate."""

    CANCEL = 0
    AMEND = 1
    PLACE = 2
    RECONCILE = 3
    DATA = 4


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request: the name of ccxt's method for the endpoint, its parameters and its price.

    `weight` counts against the request weight of the address, `orders` against the limits of
    placements.
    """

    method: str
    params: dict[str, Any]
    priority: Priority
    weight: int = 1
    orders: int = 0


class Status(Enum):
    """An order by the venue's word."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


class OrderReport(msgspec.Struct, frozen=True, gc=False):
    """One order as the venue has it; `venue_id` is the venue's own id.

    `lots` is its whole quantity, `cumulative_lots` what of it has traded.
    """

    order_id: str
    venue_id: str
    status: Status
    side: Side
    tick: int
    lots: int
    cumulative_lots: int
    updated_at: int = 0


class Execution(msgspec.Struct, frozen=True, gc=False):
    """One trade from the account's history; `order_id` is empty where only `venue_id` is said."""

    at: int
    order_id: str
    venue_id: str
    trade_id: str
    side: Side
    tick: int
    lots: int
    maker: bool
    fee: Decimal | None = None
    fee_currency: str = ""


class Holdings(msgspec.Struct, frozen=True, gc=False):
    """What the account holds: `position` is signed, in base currency.

    A derivative's own position; on a spot market the whole balance of the base currency,
    locked amounts included. `quote` is the free balance of the quote currency, `base_free`
    that of the base currency.
    """

    position: Decimal
    quote: Decimal
    base_free: Decimal = Decimal(0)


class Permissions(msgspec.Struct, frozen=True, gc=False):
    """What an API key may do."""

    can_trade: bool
    can_withdraw: bool
    can_transfer: bool
    ip_restricted: bool


class NotTrading(ValueError):
    """The symbol is listed and does not trade; str says so in words for a user."""


class Verdict(Enum):
    """What an error says about the request that got it.

    REJECTED: the venue proved that it did nothing. ABSENT: it knows no such order. Everything
    that is not listed is UNKNOWN.
    """

    REJECTED = "rejected"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """An error by the venue's table. `reason` is one word for logs and counters.

    `limited_s` > 0 asks for silence so long (429, 418); `banned` says that every further
    request makes it worse; `auth` that key or permission is at fault; `clock` that our
    timestamps are; `post_only` that the order would have taken.
    """

    verdict: Verdict
    reason: str
    limited_s: float = 0.0
    banned: bool = False
    auth: bool = False
    clock: bool = False
    post_only: bool = False


class StreamNews(msgspec.Struct, frozen=True, gc=False):
    """What one message of the private stream means.

    `events` carry the receive time. `venue_ids` maps client ids to the venue's own. `ended`
    says that nothing will follow on this stream.
    """

    events: tuple[OwnEvent | AccountEvent, ...] = ()
    venue_ids: tuple[tuple[str, str], ...] = ()
    foreign: tuple[OrderReport, ...] = ()  # orders that are not ours
    ended: bool = False


class Capabilities(msgspec.Struct, frozen=True):
    """What the venue can do, declared by its codec.

    `amend` as `EngineParams.amend`; `recv_window_ms` bounds the life of a placement under way.
    `batch_max` orders go in one placement call, 1 for none;
    `dead_man` tells whether it has a countdown that cancels all.
    """

    amend: str
    batch_max: int
    dead_man: bool
    recv_window_ms: int
    page_max: int = 1_000  # rows of one answer; a page so long is not the last
    margin: bool = False  # positions on margin: there are a position mode and a leverage


class OrderCodec(Protocol):
    """One symbol's language of order entry. `at` is the receive time in ns."""

    capabilities: Capabilities

    # --- intents
    def place(self, place: Place) -> Call: ...
    def place_many(self, places: Sequence[Place]) -> Call: ...
    def amend(self, amend: Amend) -> Call: ...
    def cancel(self, order_id: str) -> Call: ...
    def cancel_all(self) -> Call: ...

    # --- questions
    def order(self, order_id: str) -> Call: ...
    def open_orders(self) -> Call: ...
    def holdings(self) -> Call: ...
    def executions(self, since_ms: int) -> Call: ...
    def executions_after(self, trade_id: str) -> Call: ...  # the next page
    def executions_of(self, venue_id: str) -> Call: ...
    def orders_since(self, since_ms: int) -> Call: ...
    def orders_after(self, venue_id: str) -> Call: ...  # the next page
    def server_time(self) -> Call: ...
    def filters(self) -> Call: ...
    def fees(self) -> Call: ...
    def permissions(self) -> Call: ...
    def touch(self) -> Call: ...
    def position_mode(self) -> Call: ...  # ValueError where there is no margin, as `leverage`
    def leverage(self) -> Call: ...
    def countdown(self, ms: int) -> Call: ...

    # --- answers; ValueError for what is none
    def read_order(self, body: Any) -> OrderReport: ...
    def read_placed(self, body: Any) -> list[OrderReport | Refusal]: ...
    def read_orders(self, body: Any) -> list[OrderReport]: ...
    def read_holdings(self, body: Any) -> Holdings: ...
    def read_executions(self, body: Any) -> list[Execution]: ...
    def read_server_time(self, body: Any) -> int: ...  # ns
    def read_filters(self, body: Any) -> Instrument: ...
    def read_fees(self, body: Any) -> Fees: ...
    def read_permissions(self, body: Any) -> Permissions: ...
    def read_touch(self, body: Any) -> tuple[Decimal, Decimal]: ...  # best bid, best ask
    def read_one_way(self, body: Any) -> bool: ...  # else a symbol has two positions
    def read_leverage(self, body: Any) -> int: ...
    def read_stream(self, message: Mapping[str, Any], at: int) -> StreamNews: ...
    def refusal(
        self,
        status: int,
        code: int | None,
        text: str,
        priority: Priority | None = None,
        retry_after_s: float = 0.0,
    ) -> Refusal: ...
