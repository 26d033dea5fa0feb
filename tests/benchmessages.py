"""What `make bench` measures of order messages: how many an hour of the demo's market takes.

The demo's engine trades on the simulated exchange itself, in virtual time: the same order flow
and matching, the same frames, one way of WAY_NS between the two, no sockets. Beside it trade
rivals whose only difference is how they bring their orders to the same targets:

- `CancelAllOnAnyChange`: as soon as a resting order is not exactly one of the targets, every
  order is cancelled and every target is placed;
- `CancelAllOnMove`: the same, but only where the bot's own diff would have sent anything, so it
  has the same tolerance and gives up the amends and the orders that could have stayed.
"""

import argparse
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bot.core.diff import KEEPABLE, diff  # noqa: E402 - run as a script: the path comes first
from bot.core.engine import Engine  # noqa: E402
from bot.domain.account import ExecutionType, InForce, NewOrder, OrderNews, Refusal  # noqa: E402
from bot.domain.decisions import Amend, Cancel, Decision, Place, Request  # noqa: E402
from bot.domain.events import (  # noqa: E402
    ABSENT,
    Amended,
    AmendRejected,
    Filled,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OwnEvent,
)
from bot.domain.units import NS_PER_MS, NS_PER_S, Side  # noqa: E402
from bot.market.book import Head  # noqa: E402
from bot.modes.serve import QUOTE, Market, flow_params  # noqa: E402
from bot.modes.settings import Loaded, load  # noqa: E402
from bot.modes.terms import with_amends  # noqa: E402
from bot.ops.summary import Summary  # noqa: E402
from bot.shell.inbox import Frame, Item  # noqa: E402
from bot.shell.livevenue import LiveVenue  # noqa: E402
from bot.shell.pump import Pump  # noqa: E402
from bot.sim.account import Account  # noqa: E402
from bot.sim.events import LevelSet, Printed  # noqa: E402
from bot.venues.binance.board import Board  # noqa: E402
from bot.venues.binance.endpoints import endpoints  # noqa: E402
from bot.venues.binance.marketdata import MarketData  # noqa: E402
from bot.venues.binance.publictext import PublicText, Shown  # noqa: E402
from bot.venues.binance.streams import stream_of  # noqa: E402
from bot.venues.binance.tally import Tally  # noqa: E402

CONFIG: Final = ROOT / "config" / "demo.yaml"
START: Final = 1_700_000_000 * NS_PER_S
STEP_NS: Final = 5 * NS_PER_MS  # of the served market (`shell/venueserver.py`)
WAY_NS: Final = NS_PER_MS  # between the engine and the exchange, each way
LOOK_NS: Final = 100 * NS_PER_MS  # between two looks at the quotes
SNAPSHOT_LEVELS: Final = 1_000
HOUR_S: Final = 3_600.0
SECONDS: Final = 300.0  # of each market
SEEDS: Final = (1, 2, 3)


# --- rivals -------------------------------------------------------------------------------------


class CancelAllOnAnyChange(Engine):
    """Cancels every order and places every target as soon as one order is not a target."""

    def _move_orders(self, now: int, h: Head, decisions: list[Decision]) -> None:
        keepable = [
            order
            for side in (Side.BUY, Side.SELL)
            for order in self.orders.working(side)
            if order.state in KEEPABLE
        ]
        wanted = {(t.side, t.tick, t.lots): t for t in self.targets}
        resting = {(o.side, o.asked_tick, o.asked_lots) for o in keepable}
        if not self._moves():
            return
        missing = [target for key, target in wanted.items() if key not in resting]
        if resting - wanted.keys():
            for order in keepable:
                self._cancel(now, order, decisions)
            missing = list(self.targets)
        # A target that the gate refuses, as it would meet a cancel under way, comes later.
        for target in missing:
            self._place(now, h, target, decisions)

    def _moves(self) -> bool:
        """Whether a difference is a reason to move."""
        return True


class CancelAllOnMove(CancelAllOnAnyChange):
    """Cancels every order and places every target whenever the bot's diff would send anything."""

    def _moves(self) -> bool:
        for side in (Side.BUY, Side.SELL):
            working = self.orders.working(side)
            displayed = [self.book.quantity(side, order.tick) for order in working]
            for order, shown in zip(working, displayed, strict=True):
                order.ahead = min(order.ahead, shown)
            wanted = [target for target in self.targets if target.side is side]
            surplus, absent = diff(wanted, working, displayed, self._params.diff)
            if surplus or absent:
                return True
        return False


OURS: Final = "ours"
ANY_CHANGE: Final = "cancel all on any change"
ON_MOVE: Final = "cancel all when the diff moves"
TRADERS: Final = {OURS: Engine, ANY_CHANGE: CancelAllOnAnyChange, ON_MOVE: CancelAllOnMove}
# Names in bench.json: the field of an `Outcome`, and its unit.
FIGURES: Final = {
    "messages_per_hour": ("messages", "messages/h"),
    "quotes_two_sided": ("uptime", "share"),
    "quotes_distance": ("distance_bp", "bp"),
    "quotes_fills": ("fills", "fills/h"),
    "quotes_spread": ("spread_bp", "bp"),
}


# --- the market ---------------------------------------------------------------------------------


class Street:
    """The exchange, its flow and the engine's account on it, in virtual time."""

    def __init__(self, loaded: Loaded, seed: int) -> None:
        settings, instrument = loaded.settings, loaded.instrument
        self.now = START
        self.market = Market(flow_params(settings.venue, "calm"), seed, START)
        deposits = {instrument.quote: QUOTE}
        self.account = Account(
            self.market.exchange, instrument, loaded.fees, deposits=deposits, now=START
        )
        self.account.drain()
        self._text = PublicText(instrument)
        self._tally = Tally(START // NS_PER_MS)
        self._board = Board(self._text)
        where = endpoints(settings.venue, settings.symbol, base="http://127.0.0.1:1")
        names = [stream.name for one in where.connections for stream in one.streams]
        streams = [stream_of(instrument, name) for name in names]
        self._board.plan([stream for stream in streams if stream is not None], START)
        self._wire: deque[tuple[int, Request]] = deque()
        self._venue_ids: dict[str, int] = {}
        self.reports: deque[tuple[int, OwnEvent]] = deque()

    # --- what the engine sends: the entry of a `LiveVenue` --------------------------------------

    def perform(self, now: int, requests: Sequence[Request]) -> None:
        """They reach the exchange one way later."""
        self._wire.extend((now + WAY_NS, request) for request in requests)

    def tripped(self) -> None:
        """Nothing waits here that could be stopped."""

    # --- time -----------------------------------------------------------------------------------

    def next(self) -> int:
        """When a request or a report arrives next."""
        return min((queue[0][0] for queue in (self._wire, self.reports) if queue), default=1 << 62)

    def arrive(self, now: int) -> list[OwnEvent]:
        """Requests that reach the exchange at `now`, and what reaches the engine then."""
        self.now = now
        while self._wire and self._wire[0][0] <= now:
            at, request = self._wire.popleft()
            self.market.flow.advance(at)
            self._hear(at)
            self._carry_out(at, request)
            self._hear(at)
        told = []
        while self.reports and self.reports[0][0] <= now:
            told.append(self.reports.popleft()[1])
        return told

    def step(self, now: int) -> list[bytes]:
        """Bring the market to `now`; the frames that show it."""
        self.now = now
        self.market.flow.advance(now)
        self._hear(now)
        ms = now // NS_PER_MS
        frames = []
        for event in self.market.exchange.drain():
            if isinstance(event, LevelSet):
                self._board.change(event.update_id, event)
            elif isinstance(event, Printed):
                frames += self._printed(event, ms)
        for stream, raw in self._board.due(now, ms, self._tally, self._shown):
            frames.append(_combined(stream.name, raw))
        return frames

    def snapshot(self) -> bytes:
        """The book, as GET depth has it."""
        ms = self.now // NS_PER_MS
        return self._text.snapshot(ms, ms, self._shown(SNAPSHOT_LEVELS))

    def _printed(self, event: Printed, ms: int) -> list[bytes]:
        raw = self._text.trade(
            ms, event.at // NS_PER_MS, event.trade_id, event.tick, event.lots, event.aggressor
        )
        return [_combined(stream.name, raw) for stream in self._board.of_kind("trade")]

    def _shown(self, limit: int) -> Shown:
        exchange, atoms = self.market.exchange, self._text.lot_atoms
        bids = [(tick, lots * atoms) for tick, lots in exchange.levels(Side.BUY, limit)]
        asks = [(tick, lots * atoms) for tick, lots in exchange.levels(Side.SELL, limit)]
        return Shown(exchange.update_id, bids, asks)

    # --- the exchange's side of a request -------------------------------------------------------

    def _carry_out(self, at: int, request: Request) -> None:
        due = at + WAY_NS
        venue_id = self._venue_ids.get(request.order_id, 0)
        match request:
            case Place():
                wanted = NewOrder(
                    request.side, request.tick, request.lots, request.order_id,
                    in_force=InForce.GTX,
                )  # fmt: skip
                answer = self.account.place(at, wanted)
                if isinstance(answer, Refusal):
                    crossed = answer is Refusal.WOULD_MATCH
                    reason = "post_only" if crossed else answer.name.lower()
                    self.reports.append((due, OrderRejected(due, request.order_id, reason)))
                else:
                    self._venue_ids[request.order_id] = answer.order_id
            case Amend():
                answer = self.account.modify(at, venue_id, request.tick, request.lots)
                if isinstance(answer, Refusal):
                    self.reports.append((due, AmendRejected(due, request.order_id, ABSENT)))
            case Cancel():
                self.account.cancel(at, venue_id)  # refused: the report of its end is under way

    def _hear(self, at: int) -> None:
        """What the exchange tells its client now is heard one way later."""
        for news in self.account.drain():
            if isinstance(news, OrderNews):
                due = at + WAY_NS
                self.reports.append((due, _event(news, due)))


def _combined(name: str, raw: bytes) -> bytes:
    return b'{"stream":"%b","data":%b}' % (name.encode(), raw)


def _event(news: OrderNews, at: int) -> OwnEvent:
    order, trade = news.order, news.trade
    order_id, filled = order.client_id, order.filled
    match news.execution:
        case ExecutionType.NEW:
            return OrderOpened(at, order_id, filled)
        case ExecutionType.MOVED | ExecutionType.REDUCED:
            return Amended(at, order_id, order.tick, order.lots, filled)
        case ExecutionType.CANCELED:
            return OrderCancelled(at, order_id, filled)
        case ExecutionType.TRADE if trade is not None:
            return Filled(
                at, order_id, str(trade.trade_id), trade.side, trade.tick, trade.lots, trade.maker,
                filled, trade.commission, trade.asset,
            )  # fmt: skip
        case _:
            return OrderExpired(at, order_id, news.execution.value, filled)


# --- a run --------------------------------------------------------------------------------------


class Distances:
    """Mean distance of the inner resting quotes from the fair price, bp; a look at a time."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    def look(self, engine: Engine) -> None:
        """Take the quotes of this moment into account."""
        fair = float(engine.book.head[0]["fair"])
        for side in (Side.BUY, Side.SELL):
            away = [side * (fair - o.tick) for o in engine.orders.working(side) if o.resting]
            if away:
                self._sum += min(away) / fair * 1e4
                self._count += 1

    def mean(self) -> float:
        """Over all looks and sides, bp."""
        return self._sum / max(self._count, 1)


class Outcome(NamedTuple):
    """One run: messages an hour, and how good the quotes were."""

    messages: float
    placed: float
    amended: float
    cancelled: float
    uptime: float  # share of the time with resting orders on both sides
    distance_bp: float  # of the inner quotes from the fair price
    fills: float  # an hour
    volume: float  # an hour, in base currency
    spread_bp: float  # captured, of what was traded
    markout_bp: float  # five seconds behind a fill
    halts: float  # in the time that was run


def trade(loaded: Loaded, kind: Callable[..., Engine], seed: int, seconds: float) -> Outcome:
    """Trade on the market for so long; counts are scaled to an hour."""
    street = Street(loaded, seed)
    engine = kind(loaded.instrument, loaded.fees, loaded.params, "mm")
    summary, distances = Summary(), Distances()
    codec = MarketData(loaded.instrument)
    pump = Pump(engine, codec, LiveVenue(street), eyes=summary)
    end = START + round(seconds * NS_PER_S)
    step, look = START + STEP_NS, START + LOOK_NS
    while step <= end:
        now = min(step, street.next())
        items: list[Item] = list(street.arrive(now))
        if now == step:
            items = [Frame(now, raw) for raw in street.step(now)] + items
            step += STEP_NS
        if items:
            pump.batch(items, now)
        else:
            pump.wake(now)
        if pump.wants_snapshot(now):
            pump.batch([Frame(now, street.snapshot())], now)
        if now >= look:
            distances.look(engine)
            look += LOOK_NS
    summary.finish(end, engine)
    return _outcome(loaded, engine, summary, distances, seconds)


def _outcome(
    loaded: Loaded, engine: Engine, summary: Summary, distances: Distances, seconds: float
) -> Outcome:
    ledger = engine.ledger
    turnover = float(ledger.turnover) or 1.0
    engine.markouts.finish(float(engine.mark()))
    an_hour = HOUR_S / seconds
    counts = (summary.placed, summary.amended, summary.cancelled)
    return Outcome(
        sum(counts) * an_hour,
        *(count * an_hour for count in counts),
        summary.uptime(START + round(seconds * NS_PER_S)),
        distances.mean(),
        summary.fills * an_hour,
        float(ledger.volume_lots * loaded.instrument.lot) * an_hour,
        float(ledger.mark(engine.mark()).spread) / turnover * 1e4,
        engine.markouts.values()["5s"],
        len(summary.halts),
    )


def messages(seconds: float, seeds: Sequence[int] = SEEDS) -> dict[str, Outcome]:
    """The bot and both rivals, by name: means over the markets of some seeds.

    The losses at which breakers act are out of reach here: who pauses sends no messages.
    """
    loaded = with_amends(load(CONFIG, env={}))
    risk = replace(loaded.params.risk, loss_budget=loaded.params.risk.loss_budget * 1e3)
    loaded = replace(loaded, params=replace(loaded.params, risk=risk))
    found = {}
    for name, kind in TRADERS.items():
        runs = [trade(loaded, kind, seed, seconds) for seed in seeds]
        found[name] = Outcome(*(sum(each) / len(runs) for each in zip(*runs, strict=True)))
    return found


def message_figures(found: dict[str, Outcome]) -> dict[str, dict[str, Any]]:
    """In the form of bench.json: messages beside both rivals, and the quality of the quotes."""
    made: dict[str, dict[str, Any]] = {}
    ours = found[OURS]
    for suffix, rival in (("", ANY_CHANGE), ("_on_move", ON_MOVE)):
        for name, (field, unit) in FIGURES.items():
            mine, theirs = getattr(ours, field), getattr(found[rival], field)
            made[name + suffix] = {
                "unit": unit,
                "ours": round(mine, 3),
                "peer": round(theirs, 3),
                "peer_name": rival,
                "ratio": round(theirs / mine, 2) if mine else 0.0,
            }
    return made


def message_table(found: dict[str, Outcome], seconds: float) -> Table:
    """The runs side by side, for people."""
    title = f"order messages of the demo's market, {len(SEEDS)} x {seconds:g} s, as of an hour"
    shown = Table(title=title)
    shown.add_column("figure")
    for name in found:
        shown.add_column(name, justify="right")
    for field in Outcome._fields:
        shown.add_row(field, *(f"{getattr(one, field):,.3f}" for one in found.values()))
    return shown


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="of each market")
    asked = arguments.parse_args()
    Console(width=110).print(message_table(messages(asked.seconds), asked.seconds))
