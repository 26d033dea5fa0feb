"""Binance's language of order entry, in one object. Pure.

`orders` says what is asked, `reports` and `account` read the answers, `userdata` the private
stream, `refusals` the errors.
"""

from bot.domain.instrument import Instrument
from bot.venues.binance.account import AccountAnswers
from bot.venues.binance.ids import checked_prefix
from bot.venues.binance.orders import ENTRY_WINDOW_MS, OrderCalls, capabilities
from bot.venues.binance.refusals import refusal
from bot.venues.binance.reports import Answers
from bot.venues.binance.userdata import UserData
from bot.venues.orderentry import OrderCodec, Priority, Refusal


class BinanceOrderCodec:
    """One symbol of binance-spot or binance-usdm; see `OrderCodec` for what each word does."""

    def __init__(self, instrument: Instrument, prefix: str, window_ms: int) -> None:
        calls, answers = OrderCalls(instrument, window_ms), Answers(instrument)
        account, stream = AccountAnswers(instrument), UserData(instrument, prefix)
        self.instrument = instrument
        self.prefix = prefix
        self.capabilities = capabilities(instrument.venue, window_ms)

        self.place = calls.place
        self.place_many = calls.place_many
        self.amend = calls.amend
        self.cancel = calls.cancel
        self.cancel_all = calls.cancel_all

        self.order = calls.order
        self.open_orders = calls.open_orders
        self.holdings = calls.holdings
        self.executions = calls.executions
        self.executions_after = calls.executions_after
        self.executions_of = calls.executions_of
        self.orders_since = calls.orders_since
        self.orders_after = calls.orders_after
        self.server_time = calls.server_time
        self.filters = calls.filters
        self.fees = calls.fees
        self.permissions = calls.permissions
        self.touch = calls.touch
        self.position_mode = calls.position_mode
        self.leverage = calls.leverage
        self.countdown = calls.countdown

        self.read_order = answers.read_order
        self.read_placed = answers.read_placed
        self.read_orders = answers.read_orders
        self.read_executions = answers.read_executions
        self.read_holdings = account.read_holdings
        self.read_server_time = account.read_server_time
        self.read_filters = account.read_filters
        self.read_fees = account.read_fees
        self.read_permissions = account.read_permissions
        self.read_touch = account.read_touch
        self.read_one_way = account.read_one_way
        self.read_leverage = account.read_leverage
        self.read_stream = stream.read

    def refusal(
        self,
        status: int,
        code: int | None,
        text: str,
        priority: Priority | None = None,
        retry_after_s: float = 0.0,
    ) -> Refusal:
        return refusal(self.instrument.venue, status, code, text, priority, retry_after_s)

    def __repr__(self) -> str:
        return f"<BinanceOrderCodec {self.instrument.venue} {self.instrument.symbol} {self.prefix}>"


def order_codec(
    instrument: Instrument, prefix: str, window_ms: int = ENTRY_WINDOW_MS
) -> OrderCodec:
    """The order codec of one symbol for the run whose client ids start with `prefix`.

    `window_ms`, at most ENTRY_WINDOW_MS, is how long a placement may be under way.

    Raises ValueError for a product that cannot be traded and for a prefix that is none.
    """
    return BinanceOrderCodec(instrument, checked_prefix(prefix), window_ms)
