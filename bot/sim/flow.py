"""Everybody else at the simulated exchange: a seeded, queue-reactive order flow.

Events happen at random times whose intensities depend on the book, in the spirit of the
queue-reactive model (Huang, Lehalle, Rosenbaum 2015), around a latent fair value:

- makers visit a level at a distance from the touch and add to it or take from it; the
  fuller the level is compared with what its distance usually shows, the likelier they
  take. A touch that the fair value has passed is wanted less.
- improvers step into an open spread, towards the fair value.
- noise takers send market orders of heavy-tailed size; their sides persist for a while
  and lean towards the thinner queue.
- informed takers sweep the book up to the fair value once it has left the touch behind,
  and race with the makers, who cancel there.
- the fair value diffuses, drifts with the scenario, jumps on news, and follows what noise
  takers and clients take. A share of each jump and impact is forgotten again.

The next event is drawn when the one before it ends, so how callers slice time changes
nothing; a client's order is felt from the next event on.
"""

from enum import IntEnum
from math import ceil, exp, floor, inf, sqrt
from typing import Final

import numpy as np

from bot.domain.units import BPS, NS_PER_S, Side
from bot.sim.draws import Draws
from bot.sim.exchange import FLOW, Exchange
from bot.sim.habits import PATTERN, FlowParams, Shelf, popularity, shelf_of

TAKEN_BACK_MAX: Final = 24  # orders that makers cancel in one visit
LEVEL_ORDERS_MAX: Final = 400  # of one level, when it is filled or emptied at a stroke


class _Kind(IntEnum):
    """Kinds of events; the value is the place of its intensity in `Flow._rates`."""

    VISIT = 0
    IMPROVE = 1
    NOISE = 2
    INFORMED = 3
    RETREAT = 4
    NEWS = 5
    LEAVE = 6


class Flow:
    """Drives `exchange` from `start` (ns); the book is full when the constructor returns.

    The exchange's first drain then holds the whole book. `fair` is the latent fair value in
    ticks; no participant could know it.
    """

    __slots__ = (
        "_band",
        "_diffusion",
        "_draws",
        "_drift",
        "_exchange",
        "_impact",
        "_kind",
        "_lean",
        "_leaving",
        "_news",
        "_next",
        "_now",
        "_params",
        "_passing",
        "_phase",
        "_phase_end",
        "_popular",
        "_rates",
        "_seen",
        "_shelves",
        "_start",
        "_visits",
        "fair",
    )

    def __init__(self, exchange: Exchange, params: FlowParams, seed: int, start: int = 0) -> None:
        scale = params.tick_scale
        self.fair = params.start_tick + 0.5
        self._band = params.band * scale
        self._diffusion = params.diffusion * scale
        self._impact = params.impact * scale / params.lot_scale
        self._news = params.news_ticks * scale
        self._passing = 0.0  # ticks of the fair value that are being forgotten
        self._exchange = exchange
        self._params = params
        self._draws = Draws(seed, params.order_lots_log_spread)
        self._shelves = [shelf_of(zone, params) for zone in params.zones]
        self._visits = self._draws.distances(
            np.array([one.near for one in self._shelves]),
            np.array([one.far for one in self._shelves]),
            np.array([zone.visits for zone in params.zones]),
        )
        self._popular = popularity(self._draws.generator)
        self._rates = [0.0] * len(_Kind)
        self._rates[_Kind.VISIT] = 2.0 * sum(zone.visits for zone in params.zones)
        self._rates[_Kind.NOISE] = params.noise_rate
        self._rates[_Kind.NEWS] = params.news_rate
        self._lean = Side.BUY  # the persistent side of noise takers
        self._leaving: list[int] = []  # ids of orders that go while depth vanishes
        self._seen = exchange.net_taken  # as of the last look: what came since is an impact
        self._start = self._now = start
        self._enter_phase(start)
        self._fill_up()
        self._next, self._kind = self._plan()

    def deadline(self) -> int:
        """When the next event is due."""
        return self._next

    def advance(self, now: int) -> None:
        """Let everything happen that is due by `now`."""
        while self._next <= now:
            self._step(self._next)
            self._next, self._kind = self._plan()

    def feed_stalled(self, now: int) -> bool:
        """Whether the scenario wants the public feed silent at `now`."""
        return self._params.scenario.at(now - self._start)[0].feed_stalled

    # --- What happens next -------------------------------------------------------------

    def _plan(self) -> tuple[int, _Kind]:
        """Time and kind of the next event, from intensities that depend on the book now."""
        bid, _, ask, _ = self._exchange.touch()
        params, rates, fair = self._params, self._rates, self.fair
        is_open = ask - bid > 1 or bid == 0 or ask == 0
        rates[_Kind.IMPROVE] = params.improve_rate if is_open else 0.0
        is_behind = bid - fair > self._band or (ask > 0 and fair - ask > self._band)
        rates[_Kind.INFORMED] = params.informed_rate if is_behind else 0.0
        rates[_Kind.RETREAT] = params.retreat_rate if is_behind else 0.0
        total = sum(rates)
        # At least a nanosecond later: events have an order.
        at = self._now + 1 + int(next(self._draws.waits) / total * NS_PER_S)
        left = next(self._draws.uniform) * total
        for kind in _Kind:
            left -= rates[kind]
            if left < 0.0:
                return at, kind
        return at, _Kind.VISIT  # the sum of the rates was rounded

    def _step(self, now: int) -> None:
        """Let the fair value move on, then let the planned event happen."""
        exchange, draws, params = self._exchange, self._draws, self._params
        seconds = (now - self._now) / NS_PER_S
        self._now = now
        forgotten = self._passing * (1.0 - exp(-seconds / params.transient_seconds))
        self._passing -= forgotten
        self.fair += (
            self._drift * seconds + self._diffusion * sqrt(seconds) * next(draws.normal) - forgotten
        )
        self._learn(self._impact * (exchange.net_taken - self._seen))
        self._seen = exchange.net_taken
        if now >= self._phase_end:
            self._enter_phase(now)
        match self._kind:
            case _Kind.VISIT:
                self._visit(now)
            case _Kind.IMPROVE:
                self._improve(now)
            case _Kind.NOISE:
                self._take_noise(now)
            case _Kind.INFORMED:
                self._take_informed(now)
            case _Kind.RETREAT:
                self._retreat(now)
            case _Kind.NEWS:
                jump = self._news * next(draws.waits)
                self._learn(jump if next(draws.uniform) < 0.5 else -jump)
            case _Kind.LEAVE:
                self._leave(now)

    def _learn(self, ticks: float) -> None:
        """Move the fair value, in part for good."""
        self.fair += ticks
        self._passing += self._params.transient * ticks

    def _enter_phase(self, now: int) -> None:
        scenario = self._params.scenario
        self._phase, end = scenario.at(now - self._start)
        self._phase_end = self._start + end
        self._drift = self._phase.drift_bp * BPS * self._params.start_tick
        if self._phase.depth < 1.0:
            self._start_leaving()

    # --- Makers ------------------------------------------------------------------------

    def _visit(self, now: int) -> None:
        """Makers look at one level: they add to it, or take back what stands last in line."""
        draws, exchange = self._draws, self._exchange
        side = Side.BUY if next(draws.uniform) < 0.5 else Side.SELL
        zone, distance = next(self._visits)
        best = exchange.best(side)
        if best is None:
            return  # an improver comes
        shelf = self._shelves[zone]
        if zone == len(self._shelves) - 1:
            # The touch moved away from some levels: nobody else looks out there.
            stray = exchange.behind(side, best[0] - side * (shelf.far + distance - shelf.near))
            if stray and self._take_back(now, side, stray, inf):
                return
        tick = self._snapped(side, best[0] - side * distance) if distance else best[0]
        if tick <= 0:
            return
        lots = exchange.lots(side, tick)
        wanted = self._wanted(side, tick, shelf, distance)
        if next(draws.uniform) * (wanted + lots + shelf.order_lots) < wanted:
            exchange.place(now, FLOW, side, tick, self._order_lots(shelf.order_x))
        elif lots:
            self._take_back(now, side, tick, lots - 2.0 * wanted)

    def _snapped(self, side: Side, tick: int) -> int:
        """Where makers behind the touch look: at whole model ticks, or at what lies between.

        A finer tick leaves orders between those prices when the touch moves on.
        """
        scale = self._params.tick_scale
        if scale == 1:
            return tick
        whole = side * (side * tick // scale) * scale  # rounded away from the market
        left = self._exchange.behind(side, tick)
        return left if left and side * (left - whole) > 0 else whole

    def _wanted(self, side: Side, tick: int, shelf: Shelf, distance: int) -> float:
        """Lots that makers want to show at a tick."""
        if distance == 0:
            # A touch that lies one band on the wrong side of the fair value has few friends.
            passed = side * (tick - self.fair) / self._band
            trust = min(max(1.0 - 0.8 * passed, 0.15), 1.5)
            return shelf.level_lots * self._phase.depth * trust
        level, between = divmod(tick, self._params.tick_scale)
        if between or self._popular[level % PATTERN] >= shelf.occupied:
            return 0.0
        return shelf.level_lots * self._phase.depth

    def _take_back(self, now: int, side: Side, tick: int, excess: float) -> bool:
        """Cancel the order last in line, and more until `excess` lots are gone; False if none."""
        newest = self._exchange.newest(side, tick, FLOW, TAKEN_BACK_MAX)
        for order_id, lots in newest:
            self._exchange.cancel(now, order_id)
            excess -= lots
            if excess <= 0.0:
                break
        return bool(newest)

    def _retreat(self, now: int) -> None:
        """Cancel in front of the informed: the orders last in line at a touch left behind."""
        bid, _, ask, _ = self._exchange.touch()
        if ask and ask < self.fair:
            self._take_back(now, Side.SELL, ask, inf)
        elif bid > self.fair:
            self._take_back(now, Side.BUY, bid, inf)

    def _improve(self, now: int) -> None:
        """One order inside an open spread, so that the touch closes around the fair value."""
        bid, _, ask, _ = self._exchange.touch()
        fair_bid = floor(self.fair)
        if bid and ask and ask - bid <= 1:
            return  # a client was quicker
        if bid == 0:
            side, tick = Side.BUY, min(fair_bid, ask - 1) if ask else fair_bid
        elif ask == 0 or fair_bid <= bid:
            side, tick = Side.SELL, max(fair_bid, bid) + 1
        elif fair_bid >= ask - 1:
            side, tick = Side.BUY, ask - 1
        elif next(self._draws.uniform) < 0.5:
            side, tick = Side.BUY, fair_bid
        else:
            side, tick = Side.SELL, fair_bid + 1
        lots = self._order_lots(self._params.improve_size_x * self._phase.depth)
        self._exchange.place(now, FLOW, side, tick, lots)

    def _order_lots(self, size_x: float) -> int:
        """A heavy-tailed order size around `size_x` times the median, in the symbol's lots."""
        params = self._params
        lots = min(
            params.order_lots_median * size_x * next(self._draws.shape), params.order_lots_max
        )
        return max(round(lots * params.lot_scale), params.lot_scale)

    # --- Takers ------------------------------------------------------------------------

    def _take_noise(self, now: int) -> None:
        """A market order for reasons of its own, with a limit far away."""
        params, draws = self._params, self._draws
        if next(draws.uniform) < params.noise_turn:
            self._lean = Side.SELL if self._lean is Side.BUY else Side.BUY
        bid, bid_lots, ask, ask_lots = self._exchange.touch()
        imbalance = (bid_lots - ask_lots) / max(bid_lots + ask_lots, 1)
        buys = 0.5 + self._lean * params.noise_lean + params.noise_imbalance * imbalance
        side = Side.BUY if next(draws.uniform) < buys else Side.SELL
        best = ask if side is Side.BUY else bid
        if best:
            limit = best + side * params.reach * params.tick_scale
            lots = self._order_lots(params.noise_size_x)
            self._exchange.place(now, FLOW, side, max(limit, 1), lots, ioc=True)

    def _take_informed(self, now: int) -> None:
        """Take what is offered on the wrong side of the fair value; that moves it no further."""
        params, exchange = self._params, self._exchange
        bid, _, ask, _ = exchange.touch()
        lots = round(params.informed_lots * next(self._draws.waits)) + 1
        if ask and ask < self.fair:
            side, limit = Side.BUY, floor(self.fair)
        elif bid > self.fair:
            side, limit = Side.SELL, ceil(self.fair)
        else:
            return  # a client was quicker
        exchange.place(now, FLOW, side, limit, lots * params.lot_scale, ioc=True)
        self._seen = exchange.net_taken

    # --- Full and empty books ----------------------------------------------------------

    def _fill_up(self) -> None:
        """Rest on every level some of what makers aim at: half of it is usual."""
        for side, best in ((Side.BUY, floor(self.fair)), (Side.SELL, floor(self.fair) + 1)):
            for zone, shelf in zip(self._params.zones, self._shelves, strict=True):
                for distance in range(zone.near, zone.far):
                    tick = best - side * distance * self._params.tick_scale
                    if distance:
                        tick = self._snapped(side, tick)
                    if tick > 0:
                        self._fill_level(side, tick, shelf, distance)

    def _fill_level(self, side: Side, tick: int, shelf: Shelf, distance: int) -> None:
        left = next(self._draws.uniform) * self._wanted(side, tick, shelf, distance)
        for _ in range(LEVEL_ORDERS_MAX):
            if left <= 0.0:
                break
            lots = min(self._order_lots(shelf.order_x), ceil(left))
            self._exchange.place(self._now, FLOW, side, tick, lots)
            left -= lots

    def _start_leaving(self) -> None:
        """Most orders of the flow are about to be cancelled, in a random order."""
        exchange, generator = self._exchange, self._draws.generator
        orders = [
            order_id
            for side in Side
            for tick, _ in exchange.levels(side)
            for order_id, _ in exchange.newest(side, tick, FLOW, LEVEL_ORDERS_MAX)
        ]
        leaving = generator.random(len(orders)) >= self._phase.depth
        self._leaving = [order_id for order_id, goes in zip(orders, leaving, strict=True) if goes]
        generator.shuffle(self._leaving)
        self._rates[_Kind.LEAVE] = len(self._leaving) / self._params.withdraw_seconds

    def _leave(self, now: int) -> None:
        if self._leaving:
            self._exchange.cancel(now, self._leaving.pop())
        if not self._leaving:
            self._rates[_Kind.LEAVE] = 0.0

    def __repr__(self) -> str:
        return f"<Flow {self._params.scenario.name} now={self._now} fair={self.fair:.1f}>"
