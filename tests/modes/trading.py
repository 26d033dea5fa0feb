"""The real bot on the simulated exchange, both in this process, over real sockets.

The market is quiet: nothing trades unless a test says so, so that a test is about its fault
alone. A witness compares what the bot believes with the exchange's own records, at every event
of the run and every few milliseconds (RISK B.1), and a run is judged as a whole at its end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import pytest
import uvloop
from structlog.testing import capture_logs

from bot.core import breakers
from bot.core.engine import Engine
from bot.core.orders import Order, OrderState
from bot.domain.account import AccountOrder
from bot.domain.decisions import Decision, Place, Rearm, Trip
from bot.domain.events import Cleared, Event, FeedEvent, Obstructed
from bot.domain.params import RiskParams
from bot.domain.units import NS_PER_MS, Side
from bot.journal.log import Decided, read_log
from bot.modes.account import Account
from bot.modes.audit import audit
from bot.modes.demo import on_exchange
from bot.modes.execution import Execution
from bot.modes.run import EXIT_DONE, LiveRun
from bot.modes.serve import API_KEY, API_SECRET
from bot.modes.settings import Loaded, load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.heartbeat import Heartbeat, State
from bot.shell.peer import Credentials
from bot.sim.account import Account as VenueAccount
from bot.venues.binance.orders import METHODS
from tests.modes.quietvenue import Venue, quiet_venue

ROOT: Final = Path(__file__).resolve().parents[2]
CONFIGS: Final = {
    "binance-usdm": ROOT / "config" / "demo.yaml",
    "binance-spot": ROOT / "config" / "testnet-binance-spot.yaml",
}
# The testnet's own fees make the bot quote so wide that it leaves a side for a small position.
EXTRA: Final = {
    "binance-usdm": (),
    "binance-spot": ("fees.maker_bp=-0.5", "fees.taker_bp=5.0", "quote.k_per_bp=1.6"),
}
START_S: Final = 20.0  # for the first quotes, on a busy machine
END_S: Final = 20.0
POLL_S: Final = 0.004
CONVERGED_S: Final = 10.0


class Witness:
    """An eye that holds the bot's beliefs against the exchange's records; `wrong` says what not.

    `at_rest` is the part that only holds when nothing is under way.
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
        words = METHODS[account.instrument.venue]
        self._orders = {
            words[what][0] for what in ("place", "place_many", "amend") if what in words
        }
        self.wrong: list[str] = []
        self.looks = 0
        self._seen = 0  # orders of the account that were held against the intents
        self._ids: set[str] = set()

    # --- an eye -----------------------------------------------------------------------------

    def trust(self, now: int, trusted: bool) -> None:
        """The witness looks at orders only."""

    def learned(self, event: Event | FeedEvent, engine: Engine) -> None:
        self.events.append(event)
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
                if not self._stopped or self._stopped[-1][1] is not None:
                    self._stopped.append((now, None))
            elif isinstance(decision, Rearm) and self._stopped:
                self._stopped[-1] = (self._stopped[-1][0], now)
        self.look()

    def sent(self, method: str, at: int) -> None:
        """A request was written."""
        if method in self._orders:
            self._written.append(at)

    def after_trips(self) -> list[str]:
        """I7: placements and amends that left between a trip and its re-arm."""
        return [
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
        """I1, I2, I4, I12, I16 and I17, now."""
        if self.engine is None:
            return
        self.looks += 1
        self._look_at_new()
        resting = self.own_open()
        ghosts = {order.client_id for order in resting} - self.believed()
        self._check(not ghosts, f"I2 rests unknown to the bot: {sorted(ghosts)}")
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


class Stage:
    """A run on a venue, and the witness between the two."""

    def __init__(
        self, venue: Venue, live: LiveRun, witness: Witness, going: "asyncio.Task[int]"
    ) -> None:
        self.venue = venue
        self.live = live
        self.witness = witness
        self.going = going
        self.faults = venue.faults
        self.code = EXIT_DONE  # that the run must end with

    @property
    def engine(self) -> Engine:
        return self.live.paper.engine

    @property
    def execution(self) -> Execution:
        assert self.live.execution is not None
        return self.live.execution

    async def until(self, met: Callable[[], object], timeout_s: float, what: str = "") -> None:
        """Wait for a condition; a run that ends meanwhile raises what broke it."""
        try:
            async with asyncio.timeout(timeout_s):
                while not met():
                    if self.going.done():
                        raise AssertionError(f"the run ended with {self.going.result()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {what or met} {self!r}") from None

    def quoting(self) -> bool:
        """Orders rest on both sides, nothing stands in the way and nothing is unknown."""
        orders = self.engine.orders
        states = {order.state for side in Side for order in orders.working(side)}
        return (
            orders.two_sided()
            and not self.engine.obstacles
            and states <= {OrderState.LIVE, OrderState.PARTIALLY_FILLED}
            and self.engine.breakers.permission.bids_allowed
            and self.engine.breakers.permission.asks_allowed
        )

    async def quotes(self, timeout_s: float = START_S) -> None:
        """Wait until it quotes undisturbed."""
        await self.until(self.quoting, timeout_s, "quoting")

    async def converge(self, timeout_s: float = CONVERGED_S) -> None:
        """Wait until it quotes, and agrees with the venue on everything at one moment."""

        def agreed() -> bool:
            return self.quoting() and not self.witness.differences()

        try:
            await self.until(agreed, timeout_s, "converged")
        except AssertionError as error:
            raise AssertionError(f"{error} {self.witness.differences()}") from error
        wrong = self.witness.money()
        assert not wrong, wrong

    async def pause(self, seconds: float) -> None:
        """Let time pass in which nothing must happen."""
        async with asyncio.timeout(seconds + END_S):
            await asyncio.sleep(seconds)
        assert not self.going.done(), "the run ended"

    def events(self, kind: type, order_id: str | None = None) -> list[Event | FeedEvent]:
        """What was learned of a kind, perhaps of one order."""
        return [
            event
            for event in self.witness.events
            if isinstance(event, kind)
            and (order_id is None or getattr(event, "order_id", None) == order_id)
        ]

    def obstruct(self) -> None:
        """Make the bot cancel everything, as any obstacle does, until `clear`."""
        self.live.inbox.put_event(Obstructed(self.live.clock.now(), "test"))

    def clear(self) -> None:
        """Let it quote again."""
        self.live.inbox.put_event(Cleared(self.live.clock.now(), "test"))

    def order(self, order_id: str) -> Order:
        """An order as the bot knows it."""
        return self.engine.orders.find(order_id)

    def __repr__(self) -> str:
        return f"<Stage {self.engine!r} {self.engine.obstacles} {self.execution!r}>"


def loaded_for(venue: str, folder: Path, *sets: str) -> Loaded:
    """The configuration of a venue's runs in a folder."""
    values = ("web.enabled=false", f"run.folder={folder / 'runs'}", *EXTRA[venue], *sets)
    return load(CONFIGS[venue], env={}, sets=values)


@contextmanager
def account_of(venue: Venue, folder: Path, *sets: str) -> Iterator[tuple[Loaded, Account]]:
    """The venue's account as a run holds it; its state lies in the folder."""
    loaded = loaded_for(venue.loaded.settings.venue, folder, *sets)
    there = on_exchange(loaded, f"http://{venue.server.sockets.host}:{venue.server.port}")
    env = {"MMBOT_STATE": str(folder / "state")}
    with Account(there, Credentials(API_KEY, API_SECRET), env) as account:
        yield there, account


# What a test does to the parts of a run before it begins, for mutants of it.
SABOTAGE: Final[ContextVar[Callable[[LiveRun], None]]] = ContextVar(
    "SABOTAGE", default=lambda live: None
)


@asynccontextmanager
async def running(venue: Venue, folder: Path, *sets: str) -> AsyncIterator[Stage]:
    """A run on a venue that quotes; on leaving it is stopped, and judged as a whole."""
    with account_of(venue, folder, *sets) as (there, account):
        witness = Witness(there, venue.account)
        live = LiveRun(there, account, eyes=(witness,))
        assert live.execution is not None
        live.execution.wire._sent = witness.sent
        SABOTAGE.get()(live)
        witness.engine = live.paper.engine
        witness.prefix = f"{live.paper.engine._prefix}-"
        venue.market.looks.append(witness.look)
        stage = Stage(venue, live, witness, asyncio.create_task(live.go()))
        watched = watchdog(account, there) if venue.account.is_spot else None
        try:
            await stage.quotes()
            yield stage
        except BaseException:
            venue.faults.heal()  # so that it can end
            raise
        finally:
            live.stop("the test is over")
            async with asyncio.timeout(END_S):
                code = await stage.going
            venue.market.looks.remove(witness.look)
            if watched is not None:
                watched.cancel()
        assert code == stage.code, (code, witness.wrong)
        judge(stage)


def watchdog(account: Account, loaded: Loaded) -> "asyncio.Task[None]":
    """A watchdog that is alive and does nothing."""

    async def beat() -> None:
        settings, clock = loaded.settings, Clock()
        heart = Heartbeat(
            account.watchdog,
            clock,
            epoch="watchdog",
            venue=settings.venue,
            symbol=settings.symbol,
            state=State.WATCHING,
        )
        try:
            for turns in range(1_000_000):
                heart.beat(turns, State.WATCHING)
                await asyncio.sleep(0.2)
        finally:
            heart.close()

    return asyncio.create_task(beat())


@asynccontextmanager
async def trading(folder: Path, *sets: str, venue: str = "binance-usdm") -> AsyncIterator[Stage]:
    """A run that quotes on a quiet venue of its own."""
    async with (
        quiet_venue(loaded_for(venue, folder, *sets)) as place,
        running(place, folder, *sets) as stage,
    ):
        yield stage


def judge(stage: Stage) -> None:
    """What holds of every run at its end, whatever happened to it."""
    witness, engine = stage.witness, stage.engine
    witness.look()
    wrong = [*witness.wrong, *witness.after_trips(), *witness.differences(), *witness.money()]
    assert not wrong, wrong
    assert witness.looks > 0
    assert engine.orders.n_working == 0
    journalled = {
        decision.order_id
        for record in read_log(stage.live.folder.log)
        if isinstance(record, Decided)
        for decision in record.decisions
        if isinstance(decision, Place)
    }
    ids = [order.client_id for order in witness.account.orders()]
    unplanned = {i for i in ids if i.startswith(witness.prefix)} - journalled
    assert not unplanned, f"I1 {unplanned}"
    assert len(set(ids)) == len(ids), "I16"
    found = audit(stage.live.folder.path)
    assert (found["ok"], found["difference"], found["closed"]) == (True, None, True), found


HOLD_S: Final = 0.3  # instead of the breakers' cooldowns, which only take time


@contextmanager
def brief() -> Iterator[None]:
    """Breakers let go sooner."""

    def hasty(risk: RiskParams) -> tuple[breakers.Rule, ...]:
        return tuple(
            rule._replace(hold_s=min(rule.hold_s, HOLD_S), pause_s=min(rule.pause_s, HOLD_S))
            for rule in rules(risk)
        )

    rules = breakers.rules
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breakers, "rules", hasty)
        yield


Scenario = Callable[[Path], Awaitable[None]]
TOGETHER_MAX: Final = 16


async def together(scenarios: Mapping[str, Scenario], folder: Path) -> dict[str, Exception | None]:
    """Run scenarios side by side, each on a venue of its own; what each of them raised."""
    free = asyncio.Semaphore(TOGETHER_MAX)

    async def one(name: str, scenario: Scenario) -> Exception | None:
        async with free:
            place = folder / name.replace(" ", "-")
            place.mkdir()
            try:
                await scenario(place)
            except Exception as error:
                return error
            return None

    found = await asyncio.gather(*(one(name, job) for name, job in scenarios.items()))
    return dict(zip(scenarios, found, strict=True))


def outcomes(
    request: pytest.FixtureRequest, scenarios: Mapping[str, Scenario], folder: Path
) -> dict[str, Exception | None]:
    """What those scenarios raised that this session's tests of the module ask for by `name`.

    They run in one loop: each of them waits most of its time.
    """
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and "name" in item.callspec.params
    }
    wanted = {name: job for name, job in scenarios.items() if name in asked}
    warm()  # nothing compiles while quoting
    with brief(), capture_logs():
        return uvloop.run(together(wanted, folder))
