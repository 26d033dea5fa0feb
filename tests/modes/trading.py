"""The real bot on the simulated exchange, both in this process, over real sockets.

The market is quiet: nothing trades unless a test says so, so that a test is about its fault
alone. A witness compares what the bot believes with the exchange's own records, at every event
of the run and every few milliseconds (RISK 9), and a run is judged as a whole at its end.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from bot.core import breakers
from bot.core.engine import Engine
from bot.core.orders import Order, OrderState
from bot.domain.decisions import Place
from bot.domain.events import Cleared, Event, FeedEvent, Obstructed
from bot.domain.params import RiskParams
from bot.domain.units import NS_PER_S, Side
from bot.journal.log import Decided, read_log
from bot.modes.account import Account
from bot.modes.audit import audit
from bot.modes.demo import on_exchange
from bot.modes.execution import Execution
from bot.modes.run import EXIT_DONE, LiveRun
from bot.modes.serve import API_KEY, API_SECRET
from bot.modes.settings import Loaded, load
from bot.modes.warmup import warm
from bot.shell import venuetime
from bot.shell.clock import Clock
from bot.shell.deadman import Countdown
from bot.shell.heartbeat import Heartbeat, State
from bot.shell.loop import run as run_loop
from bot.shell.peer import Credentials
from tests.modes.quietvenue import Venue, quiet_venue
from tests.modes.witness import Witness

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
SWITCH_S: Final = 4.0  # instead of a countdown of 15 s, which only takes time


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
        return self.live.engine_run.engine

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

    async def hurry(self) -> None:
        """Let the dead-man's switch count down from SWITCH_S; returns once it does."""
        switch = self.execution.dead_man
        assert isinstance(switch, Countdown)
        switch._time_ms = round(SWITCH_S * 1_000)
        switch._period_ns = round(SWITCH_S * NS_PER_S / 4)
        since = self.live.clock.now()
        await switch.refresh()
        assert self.venue.asked("POST", "countdownCancelAll", since)
        switch._wake.set()

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


# What a test does to the parts of a run before it begins; holds for its own task.
PREPARE: Final[ContextVar[Callable[[LiveRun], None]]] = ContextVar(
    "PREPARE", default=lambda live: None
)


@asynccontextmanager
async def running(venue: Venue, folder: Path, *sets: str) -> AsyncIterator[Stage]:
    """A run on a venue that quotes; on leaving it is stopped, and judged as a whole."""
    with account_of(venue, folder, *sets) as (there, account):
        witness = Witness(there, venue.account)
        live = LiveRun(there, account, eyes=(witness,))
        assert live.execution is not None
        live.execution.wire._sent = witness.sent
        PREPARE.get()(live)
        witness.engine = live.engine_run.engine
        witness.prefix = f"{live.engine_run.engine._prefix}-"
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
    """Breakers let go sooner, and a doubted clock is looked at more often."""

    def hasty(risk: RiskParams) -> tuple[breakers.Rule, ...]:
        return tuple(
            rule._replace(hold_s=min(rule.hold_s, HOLD_S), pause_s=min(rule.pause_s, HOLD_S))
            for rule in rules(risk)
        )

    rules = breakers.rules
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breakers, "rules", hasty)
        patch.setattr(venuetime, "AGAIN_NS", NS_PER_S)
        yield


Scenario = Callable[[Path], Awaitable[None]]
TOGETHER_MAX: Final = 20


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
    with brief(), capture_logs() as logs:
        found = run_loop(together(wanted, folder))
    broken = [repr(line["exc_info"]) for line in logs if line.get("exc_info")]
    for error in found.values():
        if error is not None and broken:
            error.add_note(f"what broke in any of the runs: {', '.join(broken)}")
    return found
