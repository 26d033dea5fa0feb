"""The engine as a whole: what goes in, what comes out, and what no breach lets through."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from textwrap import dedent
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.diff import KEEPABLE
from bot.core.engine import Engine
from bot.core.gate import Refusal
from bot.core.orders import OrderState
from bot.core.quoting import calibrate_g, glft
from bot.core.triggers import Severity, Verdict
from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Resync, Trip
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Event,
    Filled,
    LimitsTightened,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    QuotingStopped,
    Rearmed,
)
from bot.domain.instrument import Fees, Instrument
from bot.domain.params import (
    DiffParams,
    EngineParams,
    GammaParams,
    LadderParams,
    Params,
    QuoteParams,
    RiskParams,
    VolatilityParams,
)
from bot.domain.tape import (
    BOOK_CHANGED,
    BOOK_LOST,
    BOOK_RESET,
    LOST_GAP,
    LOST_RESYNC,
    NOTHING,
    ROW,
    TOUCH_CHANGED,
    TRADED,
    Tape,
)
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.market.kernels import MOVED, TRUST

START = 1_700_000_000 * NS_PER_S
BEAT_S = 0.1
ACK_NS = NS_PER_MS
MID = 500_000  # ticks: one bp is 50 of them
LAG_NS = 5 * NS_PER_MS
LEVELS = 60
INSTRUMENT = Instrument("test", "BTCUSDT", "BTC", "USDT", Decimal("0.1"), Decimal("0.001"))
FEES = Fees(Decimal(0), Decimal("0.0005"))
Levels = dict[int, float]


def params(**changes: Any) -> Params:
    """Sensible numbers for a touch around 500,000 ticks; changes go to the group that has them."""
    groups: dict[str, dict[str, Any]] = {
        "quote": {"A_per_s": 0.9, "k_per_bp": 2.3, "sigma_bp_per_sqrt_s": 1.4, "unit_lots": 40},
        "ladder": {},
        "volatility": {},
        "gamma": {"release_half_life_s": 5.0},
        "diff": {"tolerance_ticks": 0, "queue_value_ticks": 0.0},
        "engine": {},
        "risk": {
            "loss_budget": 100.0,
            "max_position_lots": 100,
            "max_order_lots": 50,
            "fill_speed_fraction_1s": 10.0,
            "fill_speed_fraction_5s": 10.0,
            "loss_pause_s": 20.0,
        },
    }
    kinds = Params.__annotations__
    for name, value in changes.items():
        (group,) = [g for g in groups if name in kinds[g].__struct_fields__]
        groups[group][name] = value
    return Params(**{group: kinds[group](**fields) for group, fields in groups.items()})


def sides(mid: int = MID, half: int = 5, quantity: float = 10.0) -> tuple[Levels, Levels]:
    """A level every five ticks from `half` ticks off the mid."""
    bids = {mid - half - 5 * i: quantity for i in range(LEVELS)}
    asks = {mid + half + 5 * i: quantity for i in range(LEVELS)}
    return bids, asks


class Batch(NamedTuple):
    """One `decide`: what could have been cancelled before, and what was decided."""

    now: int
    cancellable: set[str]
    unknown: set[str]
    decisions: list[Decision]


def words(decision: Decision) -> str:
    match decision:
        case Place(order_id, side, tick, lots, level):
            return f"place {order_id} {side.name} {lots} @{tick} level {level}"
        case Amend(order_id, side, tick, lots, level):
            return f"amend {order_id} {side.name} {lots} @{tick} level {level}"
        case Cancel(order_id):
            return f"cancel {order_id}"
        case Resync(reason):
            return f"resync {reason}"
        case Trip(level_name, cause):
            return f"trip {level_name} {cause}"
        case Rearm(cause, size):
            return f"rearm {cause} {size}"


class Playbook:
    """Plays hand-made rows and events to a real engine and writes down what it answers.

    A venue that does what it is told acknowledges everything a millisecond later, unless
    `obedient` is false.
    """

    def __init__(
        self,
        start: int = START,
        obedient: bool = True,
        fees: Fees = FEES,
        open_book: bool = True,
        **changes: Any,
    ) -> None:
        self.engine = Engine(INSTRUMENT, fees, params(**changes), "t")
        self.start = self.now = start
        self.obedient = obedient
        self.lag_ns = LAG_NS
        self.u = 100
        self.trades = 0
        self.batches: list[Batch] = []
        self.lines: list[str] = []
        if open_book:
            self.reset()

    # --- rows ---

    def learn(
        self,
        kind: int,
        bids: Levels | None = None,
        asks: Levels | None = None,
        u: int | None = None,
        **fields: Any,
    ) -> int:
        bids, asks = bids or {}, asks or {}
        self.u = self.u + 1 if u is None else u
        row = np.zeros(1, ROW)
        row["kind"], row["recv"], row["last_id"] = kind, self.now, self.u
        row["exch"] = row["matched"] = self.now - self.lag_ns
        row["n_bid"], row["n_ask"], row["frame_end"] = len(bids), len(asks), 1
        for name, value in fields.items():
            row[name] = value
        ticks = np.array([*bids, *asks], np.int64)
        quantities = np.array([*bids.values(), *asks.values()], np.float64)
        return self.engine.learn(Tape(row, row.view(np.uint8), 1, ticks, quantities, b"", 0), 0)

    def reset(self, mid: int = MID, half: int = 5, quantity: float = 10.0) -> list[Decision]:
        self.learn(BOOK_RESET, *sides(mid, half, quantity))
        self.mid, self.half, self.quantity = mid, half, quantity
        return self.decide(f"reset {mid - half}/{mid + half}")

    def change(self, bids: Levels | None = None, asks: Levels | None = None) -> list[Decision]:
        self.learn(BOOK_CHANGED, bids, asks)
        return self.decide(f"changed {len(bids or {})}+{len(asks or {})}")

    def beat(self) -> list[Decision]:
        """A depth message that changes nothing."""
        self.learn(BOOK_CHANGED, {self.mid - self.half: self.quantity})
        return self.decide("same")

    def lost(self, cause: int = LOST_GAP) -> list[Decision]:
        self.learn(BOOK_LOST, side=cause)
        return self.decide("lost")

    def touch(self, bid: int, ask: int, **fields: Any) -> list[Decision]:
        self.learn(TOUCH_CHANGED, bid=bid, ask=ask, bid_qty=10.0, ask_qty=10.0, **fields)
        return self.decide(f"touch {bid}/{ask}")

    # --- own events ---

    def tell(self, event: Event, text: str) -> list[Decision]:
        self.engine.apply(event)
        return self.decide(text)

    def opened(self, order_id: str) -> list[Decision]:
        return self.tell(OrderOpened(self.now, order_id), f"opened {order_id}")

    def fill(self, side: Side, lots: int | None = None, worse: int = 0) -> list[Decision]:
        """Trade the oldest order of a side, `worse` ticks beyond its limit."""
        order = self.engine.orders.working(side)[0]
        lots = order.remaining_lots if lots is None else lots
        self.trades += 1
        tick = order.tick + side * worse
        event = Filled(self.now, order.order_id, f"x{self.trades}", side, tick, lots, True)
        return self.tell(event, f"filled {order.order_id} {lots} @{tick}")

    def rearm(self, reason: str = "looked at it") -> list[Decision]:
        return self.tell(Rearmed(self.now, reason), f"rearmed {reason}")

    # --- time ---

    def wait(self, seconds: float) -> "Playbook":
        self.now += round(seconds * NS_PER_S)
        return self

    def run(
        self,
        seconds: float,
        until: type[Decision] | None = None,
        each: Callable[["Playbook"], object] | None = None,
        step_s: float = BEAT_S,
    ) -> "Playbook":
        """Beat on, until a decision of a kind falls or time is over."""
        for _ in range(round(seconds / step_s)):
            self.wait(step_s)
            seen = len(self.batches)
            (each or Playbook.beat)(self)
            fallen = [d for batch in self.batches[seen:] for d in batch.decisions]
            if until is not None and any(isinstance(d, until) for d in fallen):
                break
        return self

    def tick(self) -> list[Decision]:
        """The timer: nothing arrived."""
        return self.decide("timer")

    # --- deciding ---

    def decide(self, text: str) -> list[Decision]:
        """Everything decided now and, by an obedient venue's answers, right after."""
        self.lines.append(f">> {text}")
        decisions = made = self._once()
        while self.obedient and made:
            answers = [e for d in made if (e := self._answer(d)) is not None]
            if not answers:
                break
            self.now += ACK_NS
            for event in answers:
                self.engine.apply(event)
            made = self._once()
            decisions = decisions + made
        return decisions

    def _once(self) -> list[Decision]:
        cancellable = {o.order_id for o in self.working() if o.state in KEEPABLE}
        decisions = self.engine.decide(self.now)
        unknown = {o.order_id for o in self.working() if o.state is OrderState.UNKNOWN}
        self.batches.append(Batch(self.now, cancellable, unknown, decisions))
        self.lines += [f"<< {words(d)}" for d in decisions]
        return decisions

    def _answer(self, decision: Decision) -> Event | None:
        at = self.now + ACK_NS
        if isinstance(decision, Place):
            return OrderOpened(at, decision.order_id)
        if isinstance(decision, Amend):
            return Amended(at, decision.order_id, decision.tick, decision.lots)
        return OrderCancelled(at, decision.order_id) if isinstance(decision, Cancel) else None

    # --- looking ---

    def working(self) -> list[Any]:
        table = self.engine.orders
        return [*table.working(Side.BUY), *table.working(Side.SELL)]

    def quotes(self) -> tuple[list[int], list[int]]:
        """Ticks of the working bids and asks."""
        table = self.engine.orders
        bids, asks = ([o.tick for o in table.working(side)] for side in (Side.BUY, Side.SELL))
        return bids, asks

    def all(self, kind: type[Any]) -> list[Any]:
        return [d for batch in self.batches for d in batch.decisions if isinstance(d, kind)]

    def transcript(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def severity(self) -> Severity:
        return self.engine.breakers.permission.severity


def text(block: str) -> str:
    return dedent(block).lstrip("\n")


def kinds(decisions: Sequence[Decision]) -> list[str]:
    return [type(d).__name__ for d in decisions]


# --- quoting -------------------------------------------------------------------------------


def test_first_quotes_stand_on_both_sides_of_the_fair_price() -> None:
    play = Playbook()
    play.run(0.2)
    assert play.transcript() == text(
        """
        >> reset 499995/500005
        << place t-1 BUY 40 @499976 level 0
        << place t-2 SELL 40 @500024 level 0
        >> same
        >> same
        """
    )


def test_the_quotes_are_those_of_the_model() -> None:
    play = Playbook(q_soft_units=5.0, eta=2.0)
    g = calibrate_g(0.9, 2.3, 1.4, 5.0, 2.0, g_min=1e-5, g_max=1.0)
    k = 2.3 / 50.0  # per tick
    expected = glft(MID, 0.0, g * k, 1.4 * 50.0, 0.9, k)
    (bid,), (ask,) = play.quotes()
    assert expected.bid - 1 < bid <= expected.bid
    assert expected.ask <= ask < expected.ask + 1


def test_an_unchanged_market_asks_for_nothing() -> None:
    play = Playbook()
    assert play.all(Place) != []
    seen = len(play.batches)
    play.run(10.0)
    assert len(play.batches) == seen + 100
    assert all(batch.decisions == [] for batch in play.batches[seen:])


def test_a_moved_market_moves_each_quote_by_cancel_then_place() -> None:
    play = Playbook(obedient=False)
    play.opened("t-1")
    play.opened("t-2")
    play.wait(1.0).reset(MID + 10)
    assert play.lines[-5:] == [
        ">> reset 500005/500015",
        "<< cancel t-1",
        "<< cancel t-2",
        "<< place t-3 BUY 40 @499986 level 0",
        "<< place t-4 SELL 40 @500034 level 0",
    ]


def test_a_book_within_tolerance_keeps_its_quotes() -> None:
    play = Playbook(tolerance_ticks=3)
    assert play.wait(1.0).reset(MID + 3) == []
    assert kinds(play.wait(1.0).reset(MID + 4))[:2] == ["Cancel", "Cancel"]


def test_a_fair_price_that_leaves_its_band_wakes_the_engine() -> None:
    play = Playbook()  # nearest quote 24 ticks away: the band is 6 ticks
    heavy = {MID - 5: 1000.0}
    assert play.learn(BOOK_CHANGED, {MID - 5: 20.0}) == 0
    # Fair goes to mid + 0.5 * (weighted - mid), at most 2.5 ticks: still inside.
    assert play.learn(BOOK_CHANGED, heavy) == 0
    bids, asks = sides(MID + 14)
    gone = {tick: 0.0 for tick in sides()[1] if tick < MID + 19}
    assert play.learn(BOOK_CHANGED, bids, gone | asks) & MOVED


def test_glft_is_the_default_model() -> None:
    assert QuoteParams().model == "glft"
    assert Playbook().quotes() == Playbook(model="glft").quotes()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_avellaneda_stoikov_with_tau_star_gives_the_same_quotes(position: int) -> None:
    quotes = []
    for model in ("glft", "avellaneda_stoikov"):
        play = Playbook(model=model, unit_lots=10)
        for _ in range(position):
            play.wait(1.0).fill(Side.BUY)
        quotes.append(play.quotes())
    assert quotes[0] == quotes[1]
    assert all(quotes[0])


@pytest.mark.parametrize("maker", ["-0.00002", "0.00005"])
def test_they_are_also_the_same_with_a_fee_or_a_rebate(maker: str) -> None:
    skews = shifts(fees=Fees(Decimal(maker), Decimal(0)))
    assert skews[0] == pytest.approx(skews[1], rel=1e-6)


def test_they_are_also_the_same_with_an_adverse_move_per_fill() -> None:
    skews = shifts(xi_bp=0.4)
    assert skews[0] == pytest.approx(skews[1], rel=1e-6)


def shifts(**changes: Any) -> list[float]:
    """Ticks by which one unit moves the reservation price, GLFT first."""
    found = []
    for model in ("glft", "avellaneda_stoikov"):
        play = Playbook(model=model, unit_lots=10, **changes)
        play.wait(1.0).fill(Side.BUY)
        assert play.engine.ledger.position_lots == 10
        found.append(MID - play.engine.view().reservation_ticks)
    return found


def test_a_fixed_horizon_gives_other_quotes() -> None:
    near = Playbook(model="avellaneda_stoikov", horizon_mode="fixed", horizon_s=0.001)
    far = Playbook(model="avellaneda_stoikov", horizon_mode="fixed", horizon_s=600.0)
    assert near.quotes()[0][0] > far.quotes()[0][0]


@pytest.mark.parametrize("side", list(Side))
def test_inventory_moves_both_quotes_against_it(side: Side) -> None:
    play = Playbook(unit_lots=10)
    last = play.quotes()
    for _ in range(3):
        play.run(1.0).fill(side)
        bids, asks = play.quotes()
        assert (bids[0] - last[0][0]) * side < 0
        assert (asks[0] - last[1][0]) * side < 0
        last = (bids, asks)
    assert play.engine.ledger.position_lots == 30 * side
    assert (play.engine.view().reservation_ticks - MID) * side < 0


def test_a_ladder_places_each_level_with_its_size() -> None:
    play = Playbook(sizes_units=(0.25, 0.5), unit_lots=40)
    places = play.all(Place)
    assert [(p.side, p.level, p.lots) for p in places] == [
        (Side.BUY, 0, 10),
        (Side.BUY, 1, 20),
        (Side.SELL, 0, 10),
        (Side.SELL, 1, 20),
    ]
    assert places[0].tick > places[1].tick
    assert places[2].tick < places[3].tick


def test_a_partly_filled_order_is_left_where_it_is() -> None:
    play = Playbook(tolerance_ticks=5)
    play.wait(1.0)
    assert play.fill(Side.BUY, 1) == []
    assert play.engine.orders.find("t-1").state is OrderState.PARTIALLY_FILLED


def test_a_filled_order_is_quoted_anew_around_the_new_position() -> None:
    play = Playbook(unit_lots=10)
    decisions = play.wait(1.0).fill(Side.BUY)
    buys = [d for d in decisions if isinstance(d, Place) and d.side is Side.BUY]
    assert [b.lots for b in buys] == [10]


def test_what_the_gate_refuses_is_counted_and_uses_up_no_id() -> None:
    play = Playbook(max_order_lots=39)
    assert play.all(Place) == []
    assert play.engine.gate.refused[Refusal.ORDER_SIZE] == 2
    assert play.engine.orders.n_placed == 0


def test_a_side_with_an_order_of_unknown_fate_gets_no_other() -> None:
    play = Playbook(obedient=False)
    play.opened("t-1")
    play.opened("t-2")
    play.wait(1.0).reset(MID + 10)
    play.tell(CancelRejected(play.now, "t-1"), "cancel rejected")
    play.tell(OrderCancelled(play.now, "t-3"), "gone")
    assert play.engine.orders.blocked(Side.BUY)
    play.tell(OrderCancelled(play.now, "t-4"), "gone")
    seen = len(play.batches)
    play.engine.apply(OrderCancelled(play.now, "t-2"))
    play.wait(1.0).reset(MID + 20)
    late = [d for batch in play.batches[seen - 1 :] for d in batch.decisions]
    assert {p.side for p in late if isinstance(p, Place)} == {Side.SELL}
    assert play.engine.gate.refused[Refusal.UNKNOWN_ORDER] > 0


def test_own_ids_are_never_used_twice() -> None:
    play = Playbook()
    for i in range(1, 60):
        play.wait(1.0).reset(MID + (i % 7) * 10)
    ids = [place.order_id for place in play.all(Place)]
    assert len(ids) > 60
    assert len(set(ids)) == len(ids)
    assert all(order_id.startswith("t-") for order_id in ids)


def test_an_order_remembers_what_was_ahead_of_it_when_it_opened() -> None:
    play = Playbook(obedient=False)
    bid, ask = 499_976, 500_024
    play.learn(BOOK_CHANGED, {bid: 7.0}, {ask: 3.0})
    play.opened("t-1")
    play.opened("t-2")
    table = play.engine.orders
    assert (table.find("t-1").ahead, table.find("t-2").ahead) == (7.0, 3.0)
    play.wait(0.1).change({bid: 2.0})
    assert table.find("t-1").ahead == 2.0
    play.wait(0.1).change({bid: 50.0})  # what joins later stands behind
    assert table.find("t-1").ahead == 2.0


def test_a_second_acknowledgement_costs_no_place_in_the_queue() -> None:
    play = Playbook(obedient=False)
    bid = 499_976
    play.learn(BOOK_CHANGED, {bid: 7.0})
    play.opened("t-1")
    play.wait(0.1).change({bid: 2.0})
    play.wait(0.1).change({bid: 50.0})
    play.opened("t-1")  # the stream told first, now the reply to the request does
    assert play.engine.orders.find("t-1").ahead == 2.0


# --- time ----------------------------------------------------------------------------------


def test_the_timer_runs_from_each_decision() -> None:
    play = Playbook(open_book=False)
    engine = play.engine
    assert engine.deadline() is None
    engine.decide(START)
    assert engine.deadline() == START + 100 * NS_PER_MS
    engine.decide(START + 30 * NS_PER_MS)
    assert engine.deadline() == START + 130 * NS_PER_MS
    slow = Engine(INSTRUMENT, FEES, params(timer_ms=250), "t")
    slow.decide(START)
    assert slow.deadline() == START + 250 * NS_PER_MS


def test_time_never_goes_back() -> None:
    play = Playbook()
    play.engine.decide(START - NS_PER_S)
    assert play.engine.view().now == play.now


def test_own_events_and_changes_of_trust_are_urgent() -> None:
    play = Playbook(obedient=False, open_book=False)
    engine = play.engine
    assert not engine.urgent
    assert play.learn(BOOK_RESET, *sides()) == TRUST
    assert engine.urgent
    engine.decide(play.now)
    assert not engine.urgent
    play.learn(BOOK_CHANGED, {MID - 5: 10.0})
    assert not engine.urgent
    engine.apply(OrderOpened(play.now, "t-1"))
    assert engine.urgent
    engine.decide(play.now)
    play.learn(BOOK_LOST, side=LOST_GAP)
    assert engine.urgent


def test_an_unreadable_frame_never_reprices() -> None:
    play = Playbook().run(1.0)
    before = play.engine.book.read()
    play.wait(0.05)
    flags = play.learn(NOTHING, sides(MID + 50)[0], sides(MID + 50)[1], bid=1, ask=2)
    assert flags == 0
    assert not play.engine.urgent
    assert play.tick() == []
    after = play.engine.book.read()
    assert (after.bid, after.ask, after.fair) == (before.bid, before.ask, before.fair)
    assert after.depth_recv == before.depth_recv


# --- start-up ------------------------------------------------------------------------------


def test_waiting_for_the_first_book_is_no_trip() -> None:
    play = Playbook(open_book=False)
    for _ in range(100):
        play.wait(BEAT_S).tick()
    play.wait(BEAT_S)
    play.learn(TRADED, bid=MID, bid_qty=1.0, side=1)
    play.tick()
    play.wait(BEAT_S).touch(MID - 5, MID + 5)
    assert play.all(Trip) == []
    assert play.all(Resync) == []
    assert play.engine.breakers.permission.causes == ("not_ready",)
    play.wait(BEAT_S).reset()
    assert kinds(play.batches[-2].decisions) == ["Place", "Place"]
    assert play.all(Trip) == play.all(Rearm) == []


def test_a_book_that_is_crossed_from_the_start_is_no_trip_but_is_asked_for_again() -> None:
    play = Playbook(open_book=False)
    play.learn(BOOK_RESET, {MID + 5: 1.0}, {MID - 5: 1.0})
    play.tick()
    play.run(1.0, each=Playbook.tick)
    assert play.all(Trip) == play.all(Place) == []
    assert play.all(Resync) == [Resync("crossed")]


# --- breaches: the same decide names the cause, cancels everything and places nothing ------


def lose(ticks: int) -> Callable[[Playbook], object]:
    def breach(play: Playbook) -> None:
        play.wait(1.0).fill(Side.BUY)
        assert play.all(Trip) == []
        assert len(play.working()) == 2
        play.wait(1.0).reset(MID - ticks)

    return breach


def fill_to_the_limit(play: Playbook) -> None:
    play.wait(1.0).fill(Side.BUY)
    play.wait(1.0)
    assert play.all(Trip) == []
    play.fill(Side.BUY)
    assert play.engine.ledger.position_lots == 100


def fill_fast(play: Playbook) -> None:
    play.wait(1.0).fill(Side.SELL, 34)
    assert play.all(Trip) == []
    play.wait(0.5).fill(Side.SELL, 1)


def cliff(play: Playbook) -> None:
    play.run(6.0)
    bids, asks = sides(quantity=1.0)
    play.quantity = 1.0
    play.wait(BEAT_S).change(bids, asks)
    play.run(1.0, until=Trip)
    assert play.now - START < 7.2 * NS_PER_S


def blow_out(play: Playbook) -> None:
    play.run(5.0)
    play.wait(BEAT_S).reset(half=300)
    wide_at = play.now
    play.run(0.8)
    assert play.all(Trip) == []
    play.run(0.5, until=Trip)
    assert 1.0 * NS_PER_S <= play.now - wide_at <= 1.2 * NS_PER_S


def silence(play: Playbook) -> None:
    play.run(1.0)
    last = play.now
    play.run(3.0, each=Playbook.tick)
    assert play.all(Trip) == []
    play.run(0.5, each=Playbook.tick, until=Trip)
    assert play.now - last == round(3.1 * NS_PER_S) + ACK_NS


def lonely(play: Playbook) -> None:
    def trade(play: Playbook) -> None:
        play.learn(TRADED, bid=MID, bid_qty=1.0, side=1)
        play.tick()

    play.run(1.0)
    play.run(1.0, each=trade)
    assert play.all(Trip) == []
    play.run(0.5, each=trade, until=Trip)


def ageing(play: Playbook) -> None:
    play.run(1.0)
    play.lag_ns = LAG_NS + 500 * NS_PER_MS
    play.run(0.2)
    assert play.all(Trip) == []
    play.lag_ns = LAG_NS + 502 * NS_PER_MS
    play.run(0.2, until=Trip)
    play.lag_ns = LAG_NS


def gap(play: Playbook) -> None:
    play.run(1.0)
    play.wait(0.01).lost()
    play.wait(0.01).reset()


def cross(play: Playbook) -> None:
    play.run(1.0)
    play.wait(0.01).change({MID + 10: 1.0})
    play.wait(0.01).change({MID + 10: 0.0})


def one_side_empty(play: Playbook) -> None:
    play.run(1.0)
    _, asks = sides()
    play.wait(0.01).change(asks=dict.fromkeys(asks, 0.0))
    play.wait(0.01).change(asks=asks)


def disagree(play: Playbook) -> None:
    play.run(1.0)
    play.wait(0.01).touch(MID - 6, MID + 5, u=play.u)
    assert play.all(Resync) == [Resync("ticker_disagrees")]
    play.wait(0.01).lost(LOST_RESYNC)
    play.wait(0.01).reset()


def panic(play: Playbook) -> None:
    play.run(35.0)
    play.wait(BEAT_S).reset(MID + 5_000)
    play.run(2.0, until=Trip)


def beyond_limit(play: Playbook) -> None:
    play.wait(1.0).fill(Side.BUY, 1, worse=1)


class Breach(NamedTuple):
    cause: str
    level: str
    do: Callable[[Playbook], object]
    changes: dict[str, Any] = {}  # noqa: RUF012 - never written to
    back_s: float = 20.0  # the way back takes less; 0: only an operator knows it


BREACHES = {
    "loss in five minutes": Breach(
        "loss_5m", "PAUSED", lose(6_500), {"volatility_weight": 0.0}, 400.0
    ),
    "loss in an hour": Breach(
        "loss_1h", "HALTED", lose(13_000), {"loss_5m_fraction": 9.0, "volatility_weight": 0.0}, 0.0
    ),
    "loss of the day": Breach(
        "loss_day",
        "HALTED",
        lose(25_500),
        {"loss_5m_fraction": 9.0, "loss_1h_fraction": 9.0, "volatility_weight": 0.0},
        0.0,
    ),
    "inventory": Breach("inventory", "PAUSED", fill_to_the_limit, {"unit_lots": 50}),
    "fill speed": Breach("fill_speed", "PAUSED", fill_fast, {"fill_speed_fraction_1s": 0.35}),
    "fill speed over five seconds": Breach(
        "fill_speed", "PAUSED", fill_fast, {"fill_speed_fraction_5s": 0.35}
    ),
    "liquidity cliff": Breach("depth", "PAUSED", cliff, {}, 200.0),
    "spread": Breach("spread", "PAUSED", blow_out, {"depth_drop_5s": 1.0}, 200.0),
    "silence": Breach("stale:silence", "PAUSED", silence),
    "silent depth": Breach("stale:silence", "PAUSED", lonely),
    "age": Breach("stale:age", "PAUSED", ageing),
    "gap": Breach("book_untrusted:gap", "PAUSED", gap),
    "crossed": Breach("book_untrusted:crossed", "PAUSED", cross),
    "one side empty": Breach("book_untrusted:one_sided", "PAUSED", one_side_empty),
    "ticker": Breach("book_untrusted:ticker_disagrees", "PAUSED", disagree),
    "gamma": Breach("gamma_withdraw", "PAUSED", panic, {"loss_budget": 1e9}, 120.0),
    "fill beyond the limit": Breach("fill_beyond_limit", "HALTED", beyond_limit, {}, 0.0),
}


def assert_stopped(play: Playbook, breach: Breach) -> int:
    """The first trip names the cause and stops everything; returns its batch."""
    trips = [(i, d) for i, b in enumerate(play.batches) for d in b.decisions if isinstance(d, Trip)]
    assert [t.cause for _, t in trips] == [breach.cause]
    at, trip = trips[0]
    assert trip.level == breach.level
    batch = play.batches[at]
    assert batch.cancellable != set()
    assert {d.order_id for d in batch.decisions if isinstance(d, Cancel)} == batch.cancellable
    assert not any(isinstance(d, Place | Rearm) for d in batch.decisions)
    return at


@pytest.mark.parametrize("name", list(BREACHES))
def test_a_breach_cancels_everything_and_places_nothing_until_the_rearm(name: str) -> None:
    breach = BREACHES[name]
    play = Playbook(**breach.changes)
    assert len(play.working()) == 2
    breach.do(play)
    at = assert_stopped(play, breach)
    assert play.working() == []
    assert play.engine.targets == []
    if name == "spread":
        play.wait(BEAT_S).reset()
    if breach.back_s:
        play.run(breach.back_s, until=Rearm)
    else:
        play.run(60.0)
        assert play.all(Rearm) == []
        assert play.severity is Severity.HALTED
        play.wait(BEAT_S).rearm()
        if name == "loss of the day":  # which no operator gives back
            assert play.all(Rearm) == []
            assert play.severity is Severity.HALTED
            return
    later = [(b, d) for b in play.batches[at:] for d in b.decisions]
    back = next(i for i, (_, d) in enumerate(later) if isinstance(d, Rearm))
    assert not any(isinstance(d, Place) for _, d in later[:back])
    rearm = later[back][1]
    assert isinstance(rearm, Rearm)
    if name == "ticker":  # by then it is the book's own absence that ends
        assert rearm.cause == "book_untrusted:resync_asked"
    else:
        assert rearm.cause == (breach.cause if breach.back_s else "operator:looked at it")
    play.run(1.0)
    places = [d for _, d in later if isinstance(d, Place)]
    assert places, "quotes come back"
    unit = breach.changes.get("unit_lots", 40)
    assert {p.lots for p in places} == {int(unit * rearm.size)}
    assert [t.cause for t in play.all(Trip)] == [breach.cause]


# The others need a venue that answers.
DEAF = [n for n, b in BREACHES.items() if b.do not in (fill_to_the_limit, panic)]
DEAF = [n for n in DEAF if not n.startswith("loss")]


@pytest.mark.parametrize("name", DEAF)
def test_a_breach_also_cancels_what_was_never_acknowledged(name: str) -> None:
    """The venue answers nothing at all: what is pending is cancelled as well, and only once."""
    breach = BREACHES[name]
    play = Playbook(obedient=False, **breach.changes)
    if name == "silence":
        play.run(5.0, each=Playbook.tick, until=Trip)
    else:
        breach.do(play)
    at = assert_stopped(play, breach)
    cancels = [d.order_id for b in play.batches[at:] for d in b.decisions if type(d) is Cancel]
    play.run(1.0)
    assert len(set(cancels)) == len(cancels) == len(play.batches[at].cancellable)
    late = play.opened(next(o.order_id for o in play.working()))
    assert not any(isinstance(d, Place) for d in late)


def test_an_order_found_alive_during_a_pause_is_cancelled_at_once() -> None:
    play = Playbook(obedient=False)
    play.tell(OutcomeLost(play.now, "t-1"), "lost t-1")
    play.wait(0.1).lost()
    assert play.engine.orders.blocked(Side.BUY)
    assert play.wait(0.1).opened("t-1") == [Cancel("t-1")]


def test_a_gap_reads_like_this() -> None:
    play = Playbook()
    play.run(0.1)
    play.wait(0.1).lost()
    play.wait(0.1).reset()
    play.run(1.8)
    play.lines = play.lines[:6] + [line for line in play.lines[6:] if line != ">> same"]
    play.run(0.3)
    assert play.transcript() == text(
        """
        >> reset 499995/500005
        << place t-1 BUY 40 @499976 level 0
        << place t-2 SELL 40 @500024 level 0
        >> same
        >> lost
        << trip PAUSED book_untrusted:gap
        << cancel t-1
        << cancel t-2
        >> reset 499995/500005
        >> same
        >> same
        << rearm book_untrusted:gap 0.25
        << place t-3 BUY 10 @499976 level 0
        << place t-4 SELL 10 @500024 level 0
        >> same
        """
    )


@pytest.mark.parametrize("side", list(Side))
def test_a_thin_side_is_pulled_and_the_other_one_widened(side: Side) -> None:
    depth = sum(tick * 0.1 * 10.0 for tick in sides()[0])
    play = Playbook(depth_floor=depth, depth_drop_5s=1.0).run(5.0)
    assert play.severity is Severity.ACTIVE
    bids, asks = sides(quantity=2.0)
    buying = side is Side.BUY
    if buying:
        play.quantity = 2.0
    play.wait(BEAT_S).change(bids if buying else None, None if buying else asks)
    play.run(5.0)
    assert play.all(Trip) == []
    assert play.engine.breakers.permission.causes == ("depth_bid" if buying else "depth_ask",)
    pulled, kept = play.quotes() if buying else play.quotes()[::-1]
    assert pulled == []
    assert len(kept) == 1
    assert abs(kept[0] - MID) > 24  # the distance of calm times


@pytest.mark.parametrize("side", list(Side))
def test_near_the_position_limit_only_the_reducing_side_is_quoted(side: Side) -> None:
    play = Playbook(unit_lots=40)
    play.wait(1.0).fill(side)
    play.wait(1.0).fill(side)
    assert play.engine.ledger.position_lots == 80 * side
    assert play.all(Trip) == []
    assert play.engine.orders.working(side) == ()
    assert len(play.engine.orders.working(Side(-side))) == 1


def test_a_full_position_comes_back_reducing_only() -> None:
    play = Playbook(unit_lots=50)
    fill_to_the_limit(play)
    play.run(10.0)
    assert play.severity is Severity.REDUCE_ONLY
    assert [o.side for o in play.working()] == [Side.SELL]


# --- resync --------------------------------------------------------------------------------


def test_a_book_that_stays_crossed_is_thrown_away_once() -> None:
    play = Playbook().run(1.0)
    play.wait(0.01).change({MID + 10: 1.0})
    crossed_at = play.now - ACK_NS
    assert play.all(Resync) == []  # for a moment any book may be
    play.run(0.1, each=Playbook.tick)
    play.run(0.1, each=Playbook.tick)
    assert play.all(Resync) == []
    play.run(5.0, each=Playbook.tick)
    assert play.all(Resync) == [Resync("crossed")]
    (asked,) = [b for b in play.batches if Resync("crossed") in b.decisions]
    assert 250 * NS_PER_MS <= asked.now - crossed_at <= 350 * NS_PER_MS


def test_a_book_that_crosses_again_is_thrown_away_again() -> None:
    play = Playbook().run(1.0)
    for n in (1, 2):
        play.wait(0.01).change({MID + 10: 1.0})
        play.run(1.0, each=Playbook.tick)
        assert len(play.all(Resync)) == n
        play.wait(0.01).lost(LOST_RESYNC)
        play.run(0.5, each=Playbook.tick)
        play.wait(0.01).reset()
        play.run(0.5)
    assert len(play.all(Resync)) == 2


def test_a_lost_book_is_not_asked_for() -> None:
    play = Playbook().run(1.0)
    play.lost()
    play.run(5.0, each=Playbook.tick)
    assert play.all(Resync) == []


# --- halts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_a_fill_beyond_its_limit_halts(side: Side) -> None:
    play = Playbook()
    tick = play.engine.orders.working(side)[0].tick
    play.wait(1.0).fill(side, 1, worse=1)
    (trip,) = play.all(Trip)
    assert trip == Trip(
        "HALTED", "fill_beyond_limit", {"limit_tick": tick, "fill_tick": tick + side}
    )


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("worse", [0, -1])
def test_a_fill_at_its_limit_or_better_does_not(side: Side, worse: int) -> None:
    play = Playbook()
    play.wait(1.0).fill(side, 1, worse=worse)
    assert play.all(Trip) == []
    assert play.severity is Severity.ACTIVE


def test_nothing_but_a_typed_reason_clears_a_halt() -> None:
    play = Playbook()
    play.wait(1.0).fill(Side.BUY, 1, worse=1)
    play.run(600.0, step_s=1.0)
    with pytest.raises(ValueError, match="reason"):
        play.rearm("  ")
    play.wait(BEAT_S).beat()
    assert play.severity is Severity.HALTED
    decisions = play.wait(BEAT_S).rearm("price checked by hand")
    assert decisions[0] == Rearm("operator:price checked by hand", 0.25)
    assert kinds(decisions[1:3]) == ["Place", "Place"]


def test_a_locked_engine_is_not_rearmed_by_anyone() -> None:
    play = Playbook()
    play.engine.breakers.latch(Verdict(Severity.LOCKED, "config", {}))
    play.wait(BEAT_S).beat()
    play.wait(BEAT_S).rearm()
    play.run(5.0)
    assert play.all(Rearm) == []
    assert play.working() == []


# --- the mark of a book that is not whole --------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_an_empty_side_of_the_book_is_no_loss(side: Side) -> None:
    play = Playbook().run(1.0)
    play.fill(side)
    play.run(1.0)
    bids, asks = (dict.fromkeys(levels, 0.0) for levels in sides())
    play.wait(0.01)
    if side is Side.BUY:
        play.change(asks=asks)
    else:
        play.change(bids)
    assert abs(play.engine.view().pnl.total) < 10
    play.run(2.0, each=Playbook.tick)
    play.wait(0.01).reset()
    play.run(310.0, step_s=0.5)  # a short's false gain is a loss once it leaves the window
    assert [t.cause for t in play.all(Trip)] == ["book_untrusted:one_sided"]
    assert play.severity is Severity.ACTIVE


def test_a_fill_while_one_side_is_empty_is_attributed_to_the_spread() -> None:
    play = Playbook(obedient=False).run(1.0)
    play.opened("t-1")
    _, asks = sides()
    play.wait(0.01).change(asks=dict.fromkeys(asks, 0.0))
    play.wait(0.01).fill(Side.BUY)  # before the cancel got there
    play.wait(0.01).reset()
    pnl = play.engine.view().pnl
    assert pnl.spread == (MID - 499_976) * Decimal("0.1") * 40 * Decimal("0.001")
    assert pnl.inventory == 0


# --- whatever happens ----------------------------------------------------------------------

Step = tuple[str, int, bool]
KINDS = ["move", "move", "move", "fill", "fill", "part", "lost", "cross", "mute", "wait"]
KINDS += ["open", "reject", "vanish", "unknown", "rearm", "amended", "refused", "expired"]
steps = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 400),
        st.booleans(),
    ),
    max_size=40,
)


def do(play: Playbook, step: Step) -> None:
    """One step against an engine whose venue may or may not answer."""
    what, n, flag = step
    table = play.engine.orders
    side = Side.BUY if flag else Side.SELL
    working = table.working(side)
    order = working[n % len(working)] if working else None
    play.wait(0.001 * (1 + n % 300))
    if what == "move":
        play.reset(MID + n - 200)
    elif what == "lost":
        play.lost()
        play.run(0.1)
    elif what == "cross":
        play.change({play.mid + 10 + play.half: 1.0})
    elif what == "mute":
        play.wait(n / 50).tick()
    elif what == "wait":
        play.reset(play.mid)
        play.run(n / 50)
    elif what == "rearm":
        play.rearm()
    elif order is None:
        play.beat()
    elif what in ("fill", "part"):
        lots = order.remaining_lots if what == "fill" else min(1 + n % 9, order.remaining_lots)
        play.trades += 1
        name = f"x{play.trades}"
        play.tell(Filled(play.now, order.order_id, name, side, order.tick, lots, True), "fill")
    elif what == "open":
        play.opened(order.order_id)
    elif what == "unknown":
        play.tell(OutcomeLost(play.now, order.order_id), "unknown")
    elif what == "amended" and order.amending:
        word = (order.amend_tick, order.amend_lots) if flag or n % 3 else (order.tick, order.lots)
        play.tell(Amended(play.now, order.order_id, *word), "amended")
    elif what == "refused" and order.amending and order.filled_lots <= order.lots:
        play.tell(AmendRejected(play.now, order.order_id, "no"), "amend rejected")
    elif what == "expired":
        play.tell(OrderExpired(play.now, order.order_id, "by the venue"), "expired")
    elif what == "reject" and order.state is OrderState.PENDING_NEW:
        play.tell(OrderRejected(play.now, order.order_id, "no"), "rejected")
    else:
        play.tell(OrderCancelled(play.now, order.order_id), "vanished")


def assert_sane(play: Playbook, seen: int) -> None:
    engine = play.engine
    most = params().risk.max_position_lots
    position = engine.ledger.position_lots
    for side in Side:
        assert side * position + engine.orders.exposure_lots(side) <= most
    bids = [order.highest_tick for order in engine.orders.working(Side.BUY)]
    asks = [order.lowest_tick for order in engine.orders.working(Side.SELL)]
    assert not bids or not asks or max(bids) < min(asks)
    for batch in play.batches[seen:]:
        made = kinds(batch.decisions)
        assert not ("Trip" in made and ("Place" in made or "Amend" in made))
        assert "Cancel" not in made[made.index("Place") :] if "Place" in made else True
        cancelled = {d.order_id for d in batch.decisions if isinstance(d, Cancel)}
        if "Trip" in made:
            assert cancelled == batch.cancellable | batch.unknown
        else:
            assert cancelled <= batch.cancellable
    if play.severity >= Severity.PAUSED or not engine.book.trusted:
        assert not any(order.state in KEEPABLE for order in play.working())
        assert engine.targets == []
    ids = [place.order_id for place in play.all(Place)]
    assert len(ids) == len(set(ids)) == engine.orders.n_placed
    view = engine.view()
    assert view.pnl.unexplained == 0
    assert view.position_lots == position
    assert len(view.orders) == engine.orders.n_working
    assert engine.deadline() == play.batches[-1].now + 100 * NS_PER_MS


@given(
    steps,
    st.booleans(),
    st.sampled_from([15, 40]),
    st.sampled_from(["none", "requeue", "requeue", "reduce"]),
)
@settings(max_examples=80, deadline=None)
def test_no_story_breaks_a_promise(
    story: list[Step], obedient: bool, unit: int, amend: str
) -> None:
    play = Playbook(
        obedient=obedient,
        unit_lots=unit,
        loss_budget=1e4,
        tolerance_ticks=3,
        sizes_units=(1.0, 0.5),
        amend=amend,
    )
    for step in story:
        seen = len(play.batches)
        do(play, step)
        assert_sane(play, seen)
    placed = play.all(Place)
    assert placed
    for batch in play.batches:
        if any(isinstance(d, Place) for d in batch.decisions):
            assert not any(isinstance(d, Trip) for d in batch.decisions)


# --- sameness, eyes and the rest -----------------------------------------------------------


def story() -> Playbook:
    play = Playbook(unit_lots=10, loss_budget=1e6).run(2.0)
    for i in range(20):
        play.wait(0.3).reset(MID + (i * 37) % 90)
        side = Side.BUY if i % 3 else Side.SELL
        if play.engine.orders.working(side):
            play.fill(side, 3)
    play.wait(0.1).lost()
    play.wait(0.1).reset()
    return play.run(40.0)


def test_the_same_inputs_give_the_same_decisions() -> None:
    one, two = story(), story()
    assert one.all(Trip) != []
    assert len(one.all(Place)) > 20
    assert one.batches == two.batches
    assert one.engine.view() == two.engine.view()


def test_an_inverse_contract_is_refused() -> None:
    inverse = Instrument("test", "BTCUSD", "BTC", "USD", Decimal("0.1"), Decimal(1), linear=False)
    with pytest.raises(ValueError, match="BTCUSD is not linear"):
        Engine(inverse, FEES, params(), "t")


def test_the_view_before_anything_happened() -> None:
    view = Playbook(open_book=False).engine.view()
    assert (view.trusted, view.distrust, view.level) == (False, "unsynced", "PAUSED")
    assert (view.orders, view.position_lots, view.pnl.total) == ((), 0, 0)


def test_the_view_agrees_with_the_engine() -> None:
    play = Playbook(unit_lots=10)
    play.run(1.0).fill(Side.BUY, 4)
    view = play.engine.view()
    assert view.now == play.now
    assert (view.trusted, view.distrust) == (True, "")
    assert (view.level, view.causes) == ("ACTIVE", ())
    assert (view.bid_tick, view.ask_tick, view.fair_ticks) == (MID - 5, MID + 5, MID)
    assert view.position_lots == 4
    assert (view.sigma_bp, view.gamma_multiplier) == (1.4, 1.0)
    assert [(o.order_id, o.side, o.tick, o.lots, o.filled_lots, o.state) for o in view.orders] == [
        (o.order_id, o.side, o.tick, o.lots, o.filled_lots, o.state.name) for o in play.working()
    ]
    assert play.engine.mark() == Decimal("50000.0")
    (bid, *_) = [p for p in play.all(Place) if p.side is Side.BUY]
    gain = (MID - bid.tick) * Decimal("0.1") * 4 * Decimal("0.001")
    assert (view.pnl.total, view.pnl.unexplained) == (gain, 0)
    play.run(0.1)
    play.wait(0.1).lost()
    view = play.engine.view()
    assert (view.trusted, view.distrust, view.level) == (False, "gap", "PAUSED")
    assert view.causes == ("book_untrusted:gap",)
    assert view.orders == ()


def test_the_engine_names_itself() -> None:
    play = Playbook(start=12 * NS_PER_S)
    said = repr(play.engine)
    assert said.startswith("<Engine ACTIVE q=0 OrderTable(bids=[Order(t-1 BUY 0/40 @499976")
    assert "<Book trusted" in said
    assert said.endswith("at 12.001>")


def test_params_of_the_tests_are_whole() -> None:
    """Each group keeps its defaults but for what a test names."""
    changed = params(timer_ms=50)
    assert changed.engine == EngineParams(timer_ms=50)
    assert (changed.ladder, changed.volatility) == (LadderParams(), VolatilityParams())
    assert changed.gamma == GammaParams(release_half_life_s=5.0)
    assert changed.diff == DiffParams(tolerance_ticks=0, queue_value_ticks=0.0)
    assert changed.risk.silence_all_ms == RiskParams(1.0, 1, 1).silence_all_ms


# --- the end of a run, and tighter limits ---------------------------------------------------


def test_a_stopped_engine_cancels_everything_and_places_nothing_more() -> None:
    play = Playbook()
    resting = {order.order_id for order in play.working()}
    assert resting
    made = play.wait(1.0).tell(QuotingStopped(play.now, "SIGTERM"), "stopped")
    assert {d.order_id for d in made if isinstance(d, Cancel)} == resting
    assert (play.working(), play.all(Trip)) == ([], [])
    seen = len(play.all(Place))
    play.run(30.0).reset(MID + 100)
    assert len(play.all(Place)) == seen
    play.rearm()
    assert len(play.all(Place)) == seen


def test_a_stopped_engine_also_cancels_what_is_pending_or_unknown() -> None:
    play = Playbook(obedient=False)
    play.tell(OutcomeLost(play.now, "t-1"), "lost t-1")
    made = play.wait(0.1).tell(QuotingStopped(play.now, "SIGTERM"), "stopped")
    assert {d.order_id for d in made if isinstance(d, Cancel)} == {"t-1", "t-2"}
    assert play.wait(0.1).tick() == []  # not once more with every decision
    assert play.wait(0.1).tell(OutcomeLost(play.now, "t-1"), "lost t-1") == [Cancel("t-1")]
    assert play.wait(0.1).tick() == []


def test_tightened_limits_hold_at_once_also_for_what_rests() -> None:
    play = Playbook(unit_lots=40)
    resting = {order.order_id for order in play.working()}
    tighter = msgspec.structs.replace(params().risk, max_order_lots=39)
    made = play.wait(1.0).tell(LimitsTightened(play.now, tighter), "tightened")
    assert {d.order_id for d in made if isinstance(d, Cancel)} == resting
    assert not any(isinstance(d, Place) for d in made)
    play.run(5.0)
    assert play.working() == []
    assert play.engine.gate.refused[Refusal.ORDER_SIZE] > 0


def test_tightened_limits_that_the_quotes_keep_bring_the_quotes_back() -> None:
    play = Playbook(unit_lots=40)
    before = play.quotes()
    tighter = msgspec.structs.replace(params().risk, max_position_lots=90)
    play.wait(1.0).tell(LimitsTightened(play.now, tighter), "tightened")
    play.run(1.0)
    assert play.quotes() == before
    assert play.all(Trip) == []


def test_a_tightened_budget_halts_what_was_already_lost() -> None:
    play = Playbook(loss_budget=1e9)
    play.run(2.0).fill(Side.BUY)
    play.wait(0.1).reset(MID - 2_000)
    assert play.severity < Severity.HALTED
    tighter = msgspec.structs.replace(params().risk, loss_budget=1e-6)
    play.wait(0.1).tell(LimitsTightened(play.now, tighter), "tightened")
    assert play.severity is Severity.HALTED
