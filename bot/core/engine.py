"""The engine: learn facts, decide once per batch. The only place where parts are joined.

`book` learns market rows (through a compiled lane or `learn`), `apply` learns own events,
`decide` turns what is known at `now` into decisions. The engine never reads a clock: `now`
is the caller's, and `deadline` says when it wants to be asked next.
"""

from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from bot.core.breakers import Breakers, Permission
from bot.core.diff import amendment, diff, pair
from bot.core.fillkeys import FillKeys
from bot.core.gate import Gate, Refusal
from bot.core.ladder import Target, ladder, ladder_rules
from bot.core.ledger import Ledger, Markouts
from bot.core.model import frozen_g, terms_at
from bot.core.orders import Order, OrderState, OrderTable
from bot.core.quoting import withdraw_distance
from bot.core.signals.liquidity import Liquidity
from bot.core.signals.volatility import Volatility
from bot.core.triggers import (
    Inputs,
    Severity,
    Verdict,
    fill_beyond_limit,
    position_mismatch,
)
from bot.core.valve import Valve, log_multiplier, z_vol
from bot.domain.decisions import Cancel, Decision, Place, Resync, Trip
from bot.domain.events import (
    HARMLESS,
    AccountEvent,
    Amended,
    AmendRejected,
    Cleared,
    Event,
    Filled,
    FillRecovered,
    Funded,
    LimitsTightened,
    Obstructed,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
    PositionAdopted,
    QuotingStopped,
    Rearmed,
)
from bot.domain.instrument import Fees, Instrument
from bot.domain.params import Params, RiskParams
from bot.domain.tape import Tape
from bot.domain.units import BPS, NS_PER_MS, NS_PER_S, Side
from bot.domain.view import OrderView, View
from bot.market.book import NAMES, Book, Head
from bot.market.kernels import CROSSED, LOST, ONE_SIDED, TRUST, TRUSTED, UNSYNCED

ANYWHERE: Final = 1e18  # ticks: wide enough never to be left
POST_ONLY: Final = "post_only"  # how reasons begin of orders that would have taken


class Engine:
    """One symbol on one venue.

    `prefix` starts every client id; an id is unique within a run. Raises ValueError for an
    inverse contract, whose PnL the ledger cannot keep.
    """

    def __init__(self, instrument: Instrument, fees: Fees, params: Params, prefix: str) -> None:
        self.book = Book(params.quote.fair_weight)
        self.orders = OrderTable()
        self.fill_keys = FillKeys()
        self.ledger = Ledger(instrument, fees)
        self.markouts = Markouts()
        self.volatility = Volatility(params.volatility, params.quote.sigma_bp_per_sqrt_s)
        self.liquidity = Liquidity(params.risk)
        self.valve = Valve(params.gamma)
        self.breakers = Breakers(params.risk, params.gamma.withdraw_multiplier)
        self.gate = Gate(params.risk)
        self.targets: list[Target] = []
        self.urgent = False  # an own event or a change of trust waits for a decision
        self._params = params
        self._instrument = instrument
        self._prefix = prefix
        self._sequence = 0
        self._tick = float(instrument.tick)
        self._lot = float(instrument.lot)
        self._maker_rate = float(fees.maker)
        self._rules = ladder_rules(instrument, params.ladder, params.quote.unit_lots)
        self._g0 = frozen_g(params.quote)
        self._timer_ns = params.engine.timer_ms * NS_PER_MS
        self._now = 0
        self._decided_at: int | None = None
        self._was_trusted = False
        self._trusted_touch = 0  # best bid + best ask, ticks
        self._wrong_since: int | None = None  # a synced book that must not be quoted from
        self._resync_asked = False
        self._obstacles: dict[str, str] = {}  # name to detail, oldest first
        self._stopped = False
        self._sweep = False  # stopped, and an order may rest that nobody answers for
        self._narrowed = False  # limits were tightened: resting orders may break them
        self._reservation = 0.0
        self._half_spread = 0.0

    # --- learning -----------------------------------------------------------------------

    def learn(self, tape: Tape, i: int) -> int:
        """Learn one market row; returns the book's flags."""
        flags = self.book.learn(tape.rows, i, tape.ticks, tape.qtys)
        if flags & TRUST:
            self.urgent = True
        return flags

    def apply(self, event: Event) -> bool:
        """Learn one own event; False for a fill that was told before, which is no news.

        Raises what `OrderTable.apply` raises: our broken invariant.
        """
        self._now = max(self._now, event.at)
        self.urgent = True
        match event:
            case Rearmed():
                self.breakers.operator_rearm(self._now, event.reason)
            case QuotingStopped():
                self._stopped = self._sweep = True
            case LimitsTightened():
                self._tighten(event.risk)
            case FillRecovered() | PositionAdopted() | Funded() | Obstructed() | Cleared():
                return self._account(event)
            case _:
                return self._own(event)
        return True

    def _own(self, event: OwnEvent) -> bool:
        if not self.orders.knows(event.order_id) and self._issued(event.order_id):
            # The table has forgotten the order: only a fill can still be news.
            return isinstance(event, Filled) and self._recovered(event)
        order, new_lots = self.orders.apply(event)
        match event:
            case Filled() if new_lots > 0:
                self.fill_keys.add(event.order_id, event.trade_id, event.side, event.at)
                self._filled(event, new_lots)
                self._latch(fill_beyond_limit(event.side, order.limit_tick, event.tick))
            case OrderOpened():
                self.breakers.accepted()
                if order.opened_at == 0:
                    order.opened_at = event.at
                    order.ahead = self.book.quantity(order.side, order.tick)
            case Amended():
                self.breakers.accepted()
                if self._params.engine.amend == "requeue":
                    order.ahead = self.book.quantity(order.side, order.tick)
            case OrderRejected() | AmendRejected() if event.reason not in HARMLESS:
                self.breakers.refused(self._now, post_only=event.reason.startswith(POST_ONLY))
            case OrderExpired() if event.reason.startswith(POST_ONLY):
                self.breakers.refused(self._now, post_only=True)
            case OutcomeLost():
                self._sweep = self._stopped
            case _:
                pass
        return new_lots > 0 or not isinstance(event, Filled)

    def _account(self, event: AccountEvent) -> bool:
        match event:
            case FillRecovered():
                return self._recovered(event)
            case PositionAdopted():
                self._adopt(event)
            case Funded():
                self.ledger.receive_funding(event.amount)
            case Obstructed():
                self._obstacles[event.what] = event.detail
            case Cleared():
                self._obstacles.pop(event.what, None)
        return True

    def _issued(self, order_id: str) -> bool:
        """The id is one that this engine has given to an order."""
        prefix, _, number = order_id.rpartition("-")
        mine = prefix == self._prefix and number.isascii() and number.isdigit()
        return mine and 0 < int(number) <= self._sequence

    def _recovered(self, event: Filled | FillRecovered) -> bool:
        """Book a fill, on its order where the table has it; False where it was told before."""
        if self.orders.knows(event.order_id):
            told = {name: getattr(event, name) for name in FillRecovered.__struct_fields__}
            return self._own(Filled(**told))
        if self.fill_keys.seen(event.order_id, event.trade_id, event.side, event.at):
            return False
        self._filled(event, event.lots)
        return True

    def _adopt(self, event: PositionAdopted) -> None:
        if event.reason == "reconcile":
            believed, limit = self.ledger.position_lots, self._params.risk.max_position_lots
            self._latch(position_mismatch(believed, event.lots, limit))
        self.ledger.adopt(event.lots, self._instrument.tick * event.tick2 / 2)
        self.orders.settle_owed()

    def _tighten(self, risk: RiskParams) -> None:
        self._narrowed = True
        self._params = replace(self._params, risk=risk)
        self.gate.tighten(risk)
        self.breakers.tighten(risk)

    def _touch(self, h: Head) -> int:
        """Best bid + best ask in ticks, as last trusted: a broken book moves no money."""
        return h.bid + h.ask if h.distrust == TRUSTED else self._trusted_touch

    def _filled(self, event: Filled | FillRecovered, lots: int) -> None:
        # Before the first trusted touch the fill's own price stands in.
        touch = self._touch(self.book.read()) or 2 * event.tick
        mid = 0.5 * touch * self._tick
        exact_mid = touch * self._instrument.tick / 2
        self.markouts.learn(self._now, mid)
        self.ledger.fill(
            event.side,
            event.tick,
            lots,
            event.maker,
            exact_mid,
            self._now,
            fee=event.fee,
            fee_currency=event.fee_currency,
        )
        self.markouts.fill(self._now, event.side, event.tick * self._tick, lots * self._lot, mid)
        self.breakers.filled(self._now, event.side * lots)

    def _latch(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self.breakers.latch(verdict)

    # --- deciding -----------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When to decide even if nothing happens; None before the first decision."""
        return None if self._decided_at is None else self._decided_at + self._timer_ns

    def decide(self, now: int) -> list[Decision]:
        """Signals, breakers, targets, diff, gate: everything to be done at `now`."""
        now = max(now, self._now)
        self._now = now
        self._decided_at = now
        self.urgent = False
        h = self.book.read()
        trusted = h.distrust == TRUSTED
        if trusted:
            self._sense(now, h)
        self._was_trusted = trusted
        permission = self.breakers.decide(now, self._inputs(now, h, trusted))
        decisions: list[Decision] = list(self.breakers.reported)
        if not trusted:
            self._ask_resync(now, h, decisions)
        tripped = any(isinstance(d, Trip) for d in decisions)
        allowed = permission.bids_allowed or permission.asks_allowed
        quoting = trusted and allowed and not tripped and not self._stopped
        if self._narrowed:
            quoting = self._narrowed = False  # what rests goes; the next decision quotes anew
        self.targets = self._quote(h, permission) if quoting else []
        if not quoting:
            self.book.wake_outside(-ANYWHERE, ANYWHERE)
        if tripped or self._sweep:
            self._sweep_unknown(now, decisions)
            self._sweep = False
        self._move_orders(now, h, decisions)
        return decisions

    def _sweep_unknown(self, now: int, decisions: list[Decision]) -> None:
        """A trip or a stop also cancels what may or may not rest at the venue (RISK 3)."""
        for side in (Side.BUY, Side.SELL):
            for order in self.orders.working(side):
                if order.state is OrderState.UNKNOWN:
                    self._cancel(now, order, decisions)

    def _sense(self, now: int, h: Head) -> None:
        """Feed the signals one reading of a trusted book."""
        self._trusted_touch = h.bid + h.ask
        self._wrong_since = None
        self._resync_asked = False
        mid = 0.5 * (h.bid + h.ask)
        if not self._was_trusted:
            self.volatility.restart(now)
            self.liquidity.restart(now)
        self.volatility.learn(now, mid)
        self.markouts.learn(now, mid * self._tick)
        bids, asks = self.book.depth(self._params.risk.depth_bps)
        self.liquidity.learn(
            now,
            bids * self._tick,
            asks * self._tick,
            (h.ask - h.bid) / mid / BPS,
            frozen=self.breakers.permission.severity >= Severity.REDUCE_ONLY,
        )
        log_m = 0.0
        if self.volatility.ready:
            log_m = log_multiplier(
                z_vol=z_vol(self.volatility.fast, self.volatility.slow),
                volatility_weight=self._params.gamma.volatility_weight,
            )
        self.valve.learn(now, log_m)

    def _inputs(self, now: int, h: Head, trusted: bool) -> Inputs:
        mid = 0.5 * self._touch(h)
        unknown_at = self.orders.oldest_unknown_at()
        return Inputs(
            trusted,
            NAMES[h.distrust],
            self.ledger.equity(mid * self._tick),
            self.ledger.position_lots,
            self.liquidity,
            now - h.depth_recv if h.synced else 0,
            now - h.recv,
            h.age,
            self.valve.multiplier,
            (h.ask - h.bid) / mid / BPS if trusted else 0.0,
            self.volatility.fast / self.volatility.slow,
            tuple(self._obstacles),
            0 if unknown_at is None else now - unknown_at,
        )

    def _ask_resync(self, now: int, h: Head, decisions: list[Decision]) -> None:
        """A synced book that stays wrong is thrown away, once until it is trusted or lost."""
        if h.distrust == UNSYNCED or h.distrust >= LOST:
            self._wrong_since = None
            self._resync_asked = False
            return
        if self._wrong_since is None:
            self._wrong_since = h.since
        patience = self._params.risk.crossed_ms * NS_PER_MS
        waits = h.distrust in (CROSSED, ONE_SIDED) and now - self._wrong_since < patience
        if waits or self._resync_asked:
            return
        self._resync_asked = True
        decisions.append(Resync(NAMES[h.distrust]))

    def _quote(self, h: Head, permission: Permission) -> list[Target]:
        quote = self._params.quote
        fair = h.fair
        multiplier, sigma = self.valve.multiplier, self.volatility.sigma
        terms = terms_at(fair, quote, self._g0, multiplier, sigma, self._maker_rate)
        q = self.ledger.position_lots / quote.unit_lots
        least = (quote.adverse_bp + quote.safety_bp) * BPS + self._maker_rate
        bp = fair * BPS
        self._reservation = fair - q * terms.skew
        self._half_spread = terms.half
        targets = ladder(
            self._rules,
            terms,
            fair=fair,
            q=q,
            best_bid=h.bid,
            best_ask=h.ask,
            min_half=max(0.5, least * fair),
            max_distance=withdraw_distance(quote.A_per_s, quote.k_per_bp / bp),
            size_factor=permission.size,
            spread_factor=permission.spread,
            bids=permission.bids_allowed,
            asks=permission.asks_allowed,
        )
        inner = min((abs(t.tick - fair) for t in targets), default=0.0)
        band = max(1.0, self._params.engine.wake_half_spreads * inner)
        self.book.wake_outside(fair - band, fair + band)
        return targets

    def _move_orders(self, now: int, h: Head, decisions: list[Decision]) -> None:
        """Cancel first, then amend and place what the gate lets through."""
        moves: list[tuple[Order, Target]] = []
        missing: list[Target] = []
        for side in (Side.BUY, Side.SELL):
            working = self.orders.working(side)
            wanted = [target for target in self.targets if target.side is side]
            displayed = []
            for order in working:
                shown = self.book.quantity(side, order.tick)
                order.ahead = min(order.ahead, shown)
                displayed.append(shown)
            surplus, absent = diff(wanted, working, displayed, self._params.diff)
            pairs, surplus, absent = pair(surplus, absent, self._params.engine.amend)
            moves += pairs
            missing += absent
            for order in surplus:
                self._cancel(now, order, decisions)
        for order, target in moves:
            if not self._amend(now, h, order, target, decisions):
                self._cancel(now, order, decisions)
                missing.append(target)
        for target in missing:
            self._place(now, h, target, decisions)

    def _cancel(self, now: int, order: Order, decisions: list[Decision]) -> None:
        self.orders.cancel_sent(order.order_id, now)
        decisions.append(Cancel(order.order_id))

    def _amend(
        self, now: int, h: Head, order: Order, target: Target, decisions: list[Decision]
    ) -> bool:
        """Whether `order` may stay: on its way to `target`, there already, or soon to go."""
        amend = amendment(order, target)
        if amend is None:
            return True
        position, fair = self.ledger.position_lots, h.fair
        refusal = self.gate.check_amend(
            amend, order, self.orders, position, fair=fair, best_bid=h.bid, best_ask=h.ask
        )
        if refusal is Refusal.SELF_CROSS:
            return True  # the order in the way is about to move; ours is the shyer one meanwhile
        if refusal is not None:
            return False
        self.orders.amend_sent(amend, now)
        decisions.append(amend)
        return True

    def _place(self, now: int, h: Head, target: Target, decisions: list[Decision]) -> None:
        order_id = f"{self._prefix}-{self._sequence + 1}"
        place = Place(order_id, target.side, target.tick, target.lots, target.level)
        position, fair = self.ledger.position_lots, h.fair
        refusal = self.gate.check(
            place, self.orders, position, fair=fair, best_bid=h.bid, best_ask=h.ask
        )
        if refusal is None:
            self._sequence += 1
            self.orders.placed(place, now)
            decisions.append(place)

    # --- eyes ---------------------------------------------------------------------------

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What stands in the way of orders, oldest first."""
        return tuple(self._obstacles)

    @property
    def touch(self) -> int:
        """Best bid + best ask in ticks, as last trusted: twice the mid; 0 before."""
        return self._touch(self.book.read())

    def mark(self) -> Decimal:
        """The exact mid of the last trusted touch, in quote currency."""
        return self._touch(self.book.read()) * self._instrument.tick / 2

    def view(self, levels: int = 0) -> View:
        """A frozen snapshot for eyes, with so many levels of the book a side."""
        h = self.book.read()
        orders = [*self.orders.working(Side.BUY), *self.orders.working(Side.SELL)]
        # gamma = g k; k is per bp of the fair price, which is in ticks here (MODEL 5.2).
        price = h.fair * self._tick
        base_gamma = self._g0 * self._params.quote.k_per_bp / (price * BPS) if price > 0.0 else 0.0
        permission = self.breakers.permission
        return View(
            now=self._now,
            trusted=h.distrust == TRUSTED,
            distrust=NAMES[h.distrust],
            level=permission.severity.name,
            causes=permission.causes,
            bid_tick=h.bid,
            ask_tick=h.ask,
            fair_ticks=h.fair,
            sigma_bp=self.volatility.sigma,
            sigma_fast_bp=self.volatility.fast,
            sigma_slow_bp=self.volatility.slow,
            base_gamma=base_gamma,
            gamma=base_gamma * self.valve.multiplier,
            gamma_multiplier=self.valve.multiplier,
            age_ns=h.age,
            reservation_ticks=self._reservation,
            half_spread_ticks=self._half_spread,
            position_lots=self.ledger.position_lots,
            bids=self.book.top(Side.BUY, levels),
            asks=self.book.top(Side.SELL, levels),
            orders=tuple(
                OrderView(o.order_id, o.side, o.tick, o.lots, o.filled_lots, o.state.name)
                for o in orders
            ),
            pnl=self.ledger.mark(self.mark()),
            obstacles=tuple(self._obstacles),
        )

    def __repr__(self) -> str:
        seconds = self._now / NS_PER_S
        return (
            f"<Engine {self.breakers.permission.severity.name} q={self.ledger.position_lots} "
            f"{self.orders!r} {self.book!r} at {seconds:.3f}>"
        )
