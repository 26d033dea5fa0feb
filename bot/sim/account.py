"""One client of the simulated exchange: what he may do, what he owns, what he is told.

Pure: every call carries the market's time in ns. The exchange tells the account of its orders
in the middle of a match; what the client is to hear of it lies in order in `drain`. `stamp`
turns the market's times into the wall-clock ms that records carry.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from msgspec.structs import replace

from bot.domain.account import (
    AccountOrder,
    AccountTrade,
    BalanceNews,
    ExecutionType,
    Income,
    InForce,
    Kind,
    Margin,
    NewOrder,
    News,
    OrderNews,
    Position,
    Refusal,
    SelfTrade,
    Status,
)
from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.sim.events import Cancelled, Executed, Moved, Opened, Private, Reduced
from bot.sim.exchange import Exchange
from bot.sim.exchange import Refusal as Unplaced
from bot.sim.wallet import MarginWallet, SpotWallet

OPEN_MAX: Final = 200
CHANGES_MAX: Final = 10_000  # of one order ("Modify Order")
ORDERS_MAX: Final = 20_000  # remembered; open ones are never forgotten
TRADES_MAX: Final = 50_000
NEWS_MAX: Final = 1 << 18  # between two drains
FUNDING_NS: Final = 8 * 3_600 * NS_PER_S
FUNDING_RATE: Final = Decimal("0.0001")

_ATOM: Final = Decimal("1e-8")
_ZERO: Final = Decimal(0)


def at_wall(at: int) -> int:
    """The stamp of a market whose time is the wall clock's."""
    return at // NS_PER_MS


def spares_taker(self_trade: SelfTrade) -> bool:
    """Whether an order goes on when it meets another one of its owner."""
    return self_trade in (SelfTrade.NONE, SelfTrade.EXPIRE_MAKER)


class Account:
    """The orders and money of one owner (>= 1) on `exchange`.

    `deposits` are what it begins with, by asset. A position is margined where the venue is
    not a spot market; its funding is booked every eight hours of the market's time.
    """

    def __init__(
        self,
        exchange: Exchange,
        instrument: Instrument,
        fees: Fees,
        *,
        owner: int = 1,
        deposits: Mapping[str, Decimal],
        now: int = 0,
    ) -> None:
        self.exchange = exchange
        self.instrument = instrument
        self.fees = fees
        self.owner = owner
        self.stamp: Callable[[int], int] = at_wall  # until a server puts its own in place
        self.funding_rate = FUNDING_RATE
        self.next_funding = (now // FUNDING_NS + 1) * FUNDING_NS
        self.is_spot = instrument.venue.endswith("-spot")
        wallet = SpotWallet if self.is_spot else MarginWallet
        self.wallet: SpotWallet | MarginWallet = wallet(instrument, fees, deposits)
        self.trades: deque[AccountTrade] = deque(maxlen=TRADES_MAX)
        self.incomes: deque[Income] = deque(maxlen=TRADES_MAX)
        self._orders: OrderedDict[int, AccountOrder] = OrderedDict()
        self._open: dict[int, None] = {}
        self._by_client_id: dict[str, int] = {}
        self._news: list[News] = []
        self._booked = 0
        self._last_tick = 0
        self._placing: NewOrder | None = None
        self._request_id = ""
        self._countdown: int | None = None
        exchange.listen(owner, self._learn)
        for asset, amount in deposits.items():
            self._income("TRANSFER", amount, asset, self.stamp(now))

    # --- What a client can do --------------------------------------------------------------

    def place(self, now: int, wanted: NewOrder) -> AccountOrder | Refusal:
        """Check an order against the account and send it into the book."""
        refusal = self._why_not(wanted)
        if refusal is not None:
            return refusal
        self._placing = wanted
        placed = self.exchange.place(
            now,
            self.owner,
            wanted.side,
            wanted.tick or None,
            wanted.lots,
            post_only=wanted.post_only,
            ioc=wanted.in_force in (InForce.IOC, InForce.FOK),
            client_id=wanted.client_id,
            self_trade=wanted.self_trade,
        )
        self._placing = None
        if placed.refusal is not None:
            full = placed.refusal is Unplaced.BOOK_FULL
            return Refusal.TOO_MANY if full else Refusal.WOULD_MATCH
        return self._orders[placed.order_id]

    def cancel(self, now: int, order_id: int, request_id: str = "") -> AccountOrder | Refusal:
        """Take an open order out."""
        if order_id not in self._open:
            return Refusal.UNKNOWN_ORDER
        self._request_id = request_id
        self.exchange.cancel(now, order_id)
        self._request_id = ""
        return self._orders[order_id]

    def cancel_all(self, now: int) -> list[AccountOrder]:
        """Take every open order out, oldest first."""
        ended = [self.cancel(now, order_id) for order_id in list(self._open)]
        return [order for order in ended if isinstance(order, AccountOrder)]

    def amend(self, now: int, order_id: int, lots: int, client_id: str) -> AccountOrder | Refusal:
        """Shrink an open order to `lots` in all in its place in the queue."""
        order = self._orders.get(order_id)
        if order is None or order_id not in self._open:
            return Refusal.UNKNOWN_ORDER
        if not order.filled < lots < order.lots:
            return Refusal.NOT_SMALLER
        other = self._by_client_id.get(client_id)
        if other != order_id and other in self._open:
            return Refusal.DUPLICATE
        self._request_id = client_id
        self.exchange.reduce(now, order_id, lots - order.filled)
        self._request_id = ""
        return self._orders[order_id]

    def modify(self, now: int, order_id: int, tick: int, lots: int) -> AccountOrder | Refusal:
        """Give an open order another price and size in all, at the end of the queue.

        A refused one stays as it was. One that would be left with nothing, or that is
        post-only and would match, is cancelled (USD-M documents, "Modify Order").
        """
        order = self._orders.get(order_id)
        if order is None or order_id not in self._open:
            return Refusal.UNKNOWN_ORDER
        if (tick, lots) == (order.tick, order.lots):
            return Refusal.UNCHANGED
        if order.changes >= CHANGES_MAX:
            return Refusal.TOO_OFTEN
        left, side = lots - order.filled, order.wanted.side
        best = self.exchange.best(Side(-side))
        crosses = best is not None and side * (tick - best[0]) >= 0
        if left <= 0 or (crosses and order.wanted.post_only):
            return self.cancel(now, order_id)
        resting = order.lots - order.filled
        self.wallet.release(side, order.tick * resting, resting)
        suffices = self.wallet.affords(side, tick * left, left, self.mark())
        self.wallet.reserve(side, order.tick * resting, resting)
        if not suffices:
            return Refusal.INSUFFICIENT
        self.exchange.move(now, order_id, tick, left, self_trade=order.wanted.self_trade)
        return self._orders[order_id]

    def set_leverage(self, leverage: int) -> None:
        """Of a margin account."""
        assert isinstance(self.wallet, MarginWallet)
        self.wallet.leverage = leverage

    def arm(self, due: int | None) -> None:
        """Cancel everything at a wall-clock time in ms unless told otherwise before."""
        self._countdown = due

    def tend(self, now: int, wall: int) -> None:
        """What happens by itself: a countdown (at `wall` ms), funding, orders without a use."""
        if self._countdown is not None and wall >= self._countdown:
            self._countdown = None
            self.cancel_all(now)
        while now >= self.next_funding:
            self.settle_funding(now, self.funding_rate, self.mark())
            self.next_funding += FUNDING_NS
        for order_id in list(self._open):
            order = self._orders[order_id]
            if order.wanted.reduce_only and order.lots - order.filled > self._reducible(order):
                self.cancel(now, order_id)

    def settle_funding(self, now: int, rate: Decimal, mark: int) -> None:
        """Longs pay `rate` of the position at `mark` (ticks) to shorts, or the other way."""
        wallet = self.wallet
        if not isinstance(wallet, MarginWallet) or wallet.lots == 0:
            return
        notional = self.instrument.price(mark) * self.instrument.quantity(wallet.lots)
        amount = -(notional * rate).quantize(_ATOM, ROUND_HALF_EVEN)
        asset = self.instrument.quote
        wallet.deposit(asset, amount)
        self._income("FUNDING_FEE", amount, asset, self.stamp(now))
        self._tell_balances("FUNDING_FEE", self.stamp(now), amount)

    def deposit(self, now: int, asset: str, amount: Decimal) -> None:
        """Money comes in, or goes with a negative amount."""
        self.wallet.deposit(asset, amount)
        self._income("TRANSFER", amount, asset, self.stamp(now))
        self._tell_balances("DEPOSIT", self.stamp(now), amount, asset)

    # --- What a client can see ------------------------------------------------------------

    def drain(self) -> list[News]:
        """What the client is to hear since the last call, in order."""
        news, self._news = self._news, []
        return news

    def find(self, order_id: int | None, client_id: str | None) -> AccountOrder | None:
        """An order by its id, or else the newest with a client id."""
        if order_id is None:
            order_id = self._by_client_id.get(client_id or "")
        return None if order_id is None else self._orders.get(order_id)

    def open_orders(self) -> list[AccountOrder]:
        """Oldest first."""
        return [self._orders[order_id] for order_id in self._open]

    def orders(self) -> list[AccountOrder]:
        """All that are remembered, oldest first."""
        return list(self._orders.values())

    def mark(self) -> int:
        """The mark price in ticks: the middle of the touch, or the last of our trades."""
        bid, _, ask, _ = self.exchange.touch()
        if bid and ask:
            return (bid + ask) // 2
        return bid or ask or self._last_tick

    def position(self) -> Position | None:
        """At the mark; None on a spot market."""
        return self.wallet.position(self.mark())

    def margin(self) -> Margin:
        """Of a margin account, at the mark."""
        assert isinstance(self.wallet, MarginWallet)
        return self.wallet.margin(self.mark())

    @property
    def leverage(self) -> int:
        return self.wallet.leverage if isinstance(self.wallet, MarginWallet) else 1

    # --- Checks ----------------------------------------------------------------------------

    def _why_not(self, wanted: NewOrder) -> Refusal | None:
        if self._by_client_id.get(wanted.client_id) in self._open:
            return Refusal.DUPLICATE
        if len(self._open) >= OPEN_MAX:
            return Refusal.TOO_MANY
        if wanted.reduce_only and wanted.lots > self._reducible(wanted):
            return Refusal.NOT_REDUCING
        value, fillable = self._reach(wanted)
        if wanted.in_force is InForce.FOK and fillable < wanted.lots:
            return Refusal.UNFILLABLE
        if wanted.kind is Kind.MARKET:
            if fillable == 0:
                return Refusal.EMPTY_BOOK
        else:
            value = wanted.tick * wanted.lots
        if not self.wallet.affords(wanted.side, value, wanted.lots, self.mark()):
            return Refusal.INSUFFICIENT
        return None

    def _reach(self, wanted: NewOrder) -> tuple[int, int]:
        """Value and lots that the book offers a market or fill-or-kill order at once.

        Orders of its own owner are passed by where prevention takes them out, and the end of a
        fill-or-kill order where it is the taker that expires.
        """
        value = lots = 0
        if wanted.kind is not Kind.MARKET and wanted.in_force is not InForce.FOK:
            return value, lots
        for tick, offered in self.exchange.levels(Side(-wanted.side)):
            if lots == wanted.lots or (wanted.tick and wanted.side * (tick - wanted.tick) > 0):
                break
            own = self._own_lots(wanted, tick)
            if own and wanted.in_force is InForce.FOK and not spares_taker(wanted.self_trade):
                break
            taken = min(offered - own, wanted.lots - lots)
            value += tick * taken
            lots += taken
        return value, lots

    def _own_lots(self, wanted: NewOrder, tick: int) -> int:
        """Lots of ours at an opposite tick that an order may not trade with."""
        if wanted.self_trade is SelfTrade.NONE:
            return 0
        return sum(
            order.lots - order.filled
            for order in self.open_orders()
            if order.tick == tick and order.wanted.side is not wanted.side
        )

    def _reducible(self, order: NewOrder | AccountOrder) -> int:
        """How many lots the position leaves to an order of that side."""
        side = order.side if isinstance(order, NewOrder) else order.wanted.side
        lots = self.wallet.lots if isinstance(self.wallet, MarginWallet) else 0
        return max(-side * lots, 0)

    # --- What the exchange tells -----------------------------------------------------------

    def _learn(self, event: Private) -> None:
        at = self.stamp(event.at)
        match event:
            case Opened():
                self._opened(event, at)
            case Executed():
                self._executed(event, at)
            case Reduced():
                self._reduced(event, at)
            case Moved():
                self._moved(event, at)
            case Cancelled():
                self._ended(event, at)

    def _opened(self, event: Opened, at: int) -> None:
        wanted = self._placing
        assert wanted is not None
        order = AccountOrder(
            event.order_id, wanted.client_id, wanted, wanted.tick, wanted.lots, Status.NEW,
            0, 0, at, at,
        )  # fmt: skip
        self._orders[order.order_id] = order
        self._open[order.order_id] = None
        self._by_client_id[order.client_id] = order.order_id
        if order.tick:
            self.wallet.reserve(wanted.side, order.tick * order.lots, order.lots)
        self._tell(ExecutionType.NEW, order, at)
        if len(self._orders) > ORDERS_MAX:
            self._forget_oldest()

    def _executed(self, event: Executed, at: int) -> None:
        before = self._orders[event.order_id]
        if before.tick:
            self.wallet.release(event.side, before.tick * event.lots, event.lots)
        value = event.tick * event.lots
        booked = self.wallet.book(event.side, value, event.lots, maker=event.maker)
        self._last_tick = event.tick
        order = replace(
            before,
            status=Status.PARTIALLY_FILLED if event.left else Status.FILLED,
            filled=before.filled + event.lots,
            value=before.value + value,
            updated=at,
        )
        trade = AccountTrade(
            event.trade_id, event.order_id, event.side, event.tick, event.lots, event.maker,
            booked.commission, booked.asset, booked.realized, at,
        )  # fmt: skip
        self.trades.append(trade)
        if not self.is_spot:
            if booked.realized:
                self._income("REALIZED_PNL", booked.realized, booked.asset, at, trade.trade_id)
            self._income("COMMISSION", -booked.commission, booked.asset, at, trade.trade_id)
        self._keep(order)
        self._tell(ExecutionType.TRADE, order, at, trade)

    def _reduced(self, event: Reduced, at: int) -> None:
        before = self._orders[event.order_id]
        gone = before.lots - before.filled - event.left
        self.wallet.release(before.wanted.side, before.tick * gone, gone)
        client_id = self._request_id or before.client_id
        order = replace(before, lots=before.lots - gone, updated=at, client_id=client_id)
        self._by_client_id[client_id] = order.order_id
        self._keep(order)
        self._tell(ExecutionType.REDUCED, order, at, request_id=before.client_id)

    def _moved(self, event: Moved, at: int) -> None:
        before = self._orders[event.order_id]
        side, resting = before.wanted.side, before.lots - before.filled
        self.wallet.release(side, before.tick * resting, resting)
        self.wallet.reserve(side, event.tick * event.left, event.left)
        order = replace(
            before,
            tick=event.tick,
            lots=before.filled + event.left,
            updated=at,
            changes=before.changes + 1,
        )
        self._keep(order)
        self._tell(ExecutionType.MOVED, order, at)

    def _ended(self, event: Cancelled, at: int) -> None:
        before = self._orders[event.order_id]
        if before.tick:
            self.wallet.release(before.wanted.side, before.tick * event.left, event.left)
        if event.prevented:
            status, execution = Status.EXPIRED_IN_MATCH, ExecutionType.PREVENTED
        elif event.expired:
            status, execution = Status.EXPIRED, ExecutionType.EXPIRED
        else:
            status, execution = Status.CANCELED, ExecutionType.CANCELED
        order = replace(before, status=status, updated=at)
        self._keep(order)
        self._tell(execution, order, at, request_id=self._request_id)

    def _keep(self, order: AccountOrder) -> None:
        self._orders[order.order_id] = order
        if not order.is_open:
            del self._open[order.order_id]

    def _forget_oldest(self) -> None:
        """Drop the oldest order that has ended."""
        oldest = next(order_id for order_id in self._orders if order_id not in self._open)
        order = self._orders.pop(oldest)
        if self._by_client_id.get(order.client_id) == oldest:
            del self._by_client_id[order.client_id]

    # --- Telling ---------------------------------------------------------------------------

    def _tell(
        self,
        execution: ExecutionType,
        order: AccountOrder,
        at: int,
        trade: AccountTrade | None = None,
        request_id: str = "",
    ) -> None:
        assert len(self._news) < NEWS_MAX
        self._news.append(OrderNews(execution, order, at, trade, request_id))
        # On a spot market every order binds or frees a balance; margin moves with trades only.
        if trade is not None or self.is_spot:
            self._tell_balances("ORDER", at)

    def _tell_balances(self, reason: str, at: int, delta: Decimal = _ZERO, asset: str = "") -> None:
        found = self.wallet.balances()
        chosen = tuple(one for one in found if not asset or one.asset == asset)
        self._news.append(BalanceNews(reason, chosen, self.position(), at, delta))

    def _income(self, kind: str, amount: Decimal, asset: str, at: int, trade_id: int = 0) -> None:
        self._booked += 1
        self.incomes.append(Income(self._booked, kind, amount, asset, at, trade_id))

    def __repr__(self) -> str:
        return f"<Account {self.owner} open={len(self._open)} {self.wallet!r}>"
