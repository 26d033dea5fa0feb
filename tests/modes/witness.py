"""Holds what a bot believes against the records of the exchange that it trades on (RISK 9)."""

from collections.abc import Sequence
from typing import Final

from bot.core.engine import Engine
from bot.core.orders import OrderState
from bot.domain.account import AccountOrder
from bot.domain.decisions import Decision, Place, Rearm, Trip
from bot.domain.events import Event, FeedEvent, QuotingStopped
from bot.domain.units import NS_PER_MS, Side
from bot.modes.settings import Loaded
from bot.sim.account import Account as VenueAccount
from bot.venues.binance.orders import METHODS

WRITE_NS: Final = 100 * NS_PER_MS  # what is on its way to its socket may take so long


class Witness:
    """An eye that looks at both sides whenever anything happens; `wrong` says what did not hold.

    `differences` and `money` only have to be empty when nothing is under way, `after_trips` at
    the end.
    """

    def __init__(self, loaded: Loaded, account: VenueAccount) -> None:
        self.risk = loaded.params.risk
        self.account = account
        self.engine: Engine | None = None
        self.prefix = ""
        self.fresh = not account.trades  # nothing was open when it began
        self.placed: set[str] = set()  # intents, by client id
        self.events: list[Event | FeedEvent] = []
        self.trips: list[str] = []
        self._stopped: list[tuple[int, int | None]] = []  # from a trip to the re-arm, ns
        self._written: list[int] = []  # when placements and amends left, ns
        calls = METHODS[account.instrument.venue]
        self._orders = {calls[name][0] for name in calls.keys() & {"place", "place_many", "amend"}}
        self._switch = calls["countdown"][0] if "countdown" in calls else ""
        self._refreshed: list[int] = []  # when the dead-man's switch was told anything, ns
        self._halted_at = self._ended_at = 0  # latched; told to end
        self.wrong: list[str] = []
        self.looks = 0
        self._seen = 0  # orders of the account that were held against the intents
        self._ids: set[str] = set()

    # --- an eye -----------------------------------------------------------------------------

    def trust(self, now: int, trusted: bool) -> None:
        """The witness looks at orders only."""

    def learned(self, event: Event | FeedEvent, engine: Engine) -> None:
        self.events.append(event)
        if isinstance(event, QuotingStopped):
            self._ended_at = event.at
        self.look()

    def decided(self, now: int, decisions: Sequence[Decision], engine: Engine) -> None:
        for decision in decisions:
            if isinstance(decision, Place):
                self.placed.add(decision.order_id)
                unknown = [
                    order.order_id
                    for order in engine.orders.working(decision.side)
                    if order.state is OrderState.UNKNOWN
                ]
                self._check(not unknown, f"I18 {decision.order_id} beside {unknown}")
            elif isinstance(decision, Trip):
                self.trips.append(decision.cause)
                if decision.level in ("HALTED", "LOCKED"):
                    self._halted_at = self._halted_at or now
                if not self._stopped or self._stopped[-1][1] is not None:
                    self._stopped.append((now, None))
            elif isinstance(decision, Rearm) and self._stopped:
                self._stopped[-1] = (self._stopped[-1][0], now)
        self.look()

    def sent(self, method: str, at: int) -> None:
        """A request was written."""
        if method in self._orders:
            self._written.append(at)
        elif method == self._switch:
            self._refreshed.append(at)

    def after_trips(self) -> list[str]:
        """I7: what left between a trip and its re-arm, and a switch refreshed for a dead bot."""
        kept_up = [
            f"I7 switch refreshed {(at - self._halted_at) / NS_PER_MS:.0f} ms after the halt"
            for at in self._refreshed
            if self._halted_at and self._halted_at + WRITE_NS < at < self._ended_at
        ]
        return kept_up + [
            f"I7 sent {(at - tripped) / NS_PER_MS:.3f} ms after a trip"
            for tripped, rearmed in self._stopped
            for at in self._written
            if tripped < at and (rearmed is None or at < rearmed)
        ]

    # --- always -----------------------------------------------------------------------------

    def own_open(self) -> list[AccountOrder]:
        """What this run has resting at the venue."""
        return [o for o in self.account.open_orders() if o.client_id.startswith(self.prefix)]

    def believed(self) -> set[str]:
        """Ids of the orders that may trade, as far as the bot knows."""
        assert self.engine is not None
        orders = self.engine.orders
        return {order.order_id for side in Side for order in orders.working(side)}

    def look(self) -> None:
        """I1, I2, I4, I12, I16, I17 and I19, now."""
        if self.engine is None:
            return
        self.looks += 1
        self._look_at_new()
        resting = self.own_open()
        ghosts = {order.client_id for order in resting} - self.believed()
        self._check(not ghosts, f"I2 rests unknown to the bot: {sorted(ghosts)}")
        armed = self.account.is_spot or self.account._countdown is not None
        self._check(armed or not resting, "I19 rests without a dead-man's switch")
        position = self.venue_position()
        ticks: dict[Side, list[int]] = {}
        for side in Side:
            own = [order for order in resting if order.wanted.side is side]
            ticks[side] = [order.tick for order in own]
            exposure = side * position + sum(order.lots - order.filled for order in own)
            self._check(exposure <= self.risk.max_position_lots, f"I4 {side.name} {exposure} lots")
            most = self.risk.max_open_orders_per_side
            self._check(len(own) <= most, f"I17 {len(own)} orders on {side.name}")
        if ticks[Side.BUY] and ticks[Side.SELL]:
            bid, ask = max(ticks[Side.BUY]), min(ticks[Side.SELL])
            self._check(bid < ask, f"I12 own bid {bid} and ask {ask}")

    def _look_at_new(self) -> None:
        orders = self.account.orders()
        for order in orders[self._seen :]:
            if order.client_id.startswith(self.prefix):
                self._check(order.client_id in self.placed, f"I1 no intent: {order.client_id}")
                self._check(order.client_id not in self._ids, f"I16 twice: {order.client_id}")
                self._ids.add(order.client_id)
        self._seen = len(orders)

    def venue_position(self) -> int:
        """In lots; on spot what was traded, for balances are not all ours."""
        position = self.account.position()
        if position is not None:
            return position.lots
        return sum(trade.side * trade.lots for trade in self.account.trades)

    # --- at rest ------------------------------------------------------------------------------

    def differences(self) -> list[str]:
        """What the bot and the venue do not agree on: I2, I3 and I15, as if all had been said."""
        engine = self.engine
        assert engine is not None
        found = []
        resting = {order.client_id for order in self.own_open()}
        if resting != self.believed():
            found.append(f"I2 open {sorted(resting)} believed {sorted(self.believed())}")
        position, told = engine.ledger.position_lots, self.venue_position()
        if position != told:
            found.append(f"I3 position {position}, the venue's is {told}")
        if engine.orders.owed():
            found.append(f"I3 owed {engine.orders.owed()}")
        for order in self.own_open():
            if engine.orders.knows(order.client_id):
                own = engine.orders.find(order.client_id)
                believed = (own.tick, own.lots, own.filled_lots)
                told_order = (order.tick, order.lots, order.filled)
                if believed != told_order:
                    found.append(f"I13 {order.client_id} {believed}, the venue's {told_order}")
        return found

    def money(self) -> list[str]:
        """I15 of a margin account that never traded before: its worth is the ledger's."""
        assert self.engine is not None
        if self.account.is_spot or not self.fresh:
            return []
        deposits = sum(i.amount for i in self.account.incomes if i.kind == "TRANSFER")
        mark = self.account.mark()
        margin = self.account.margin()
        theirs = margin.wallet + margin.unrealized - deposits
        ours = self.engine.ledger.mark(self.account.instrument.price(mark)).total
        return [] if ours == theirs else [f"I15 worth {ours}, at the venue {theirs}"]

    def _check(self, holds: bool, text: str) -> None:
        if not holds and text not in self.wrong:
            self.wrong.append(text)
