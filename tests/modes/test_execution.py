"""One run's real orders: what stands in their way at first, who may take them out, the end.

Virtual time and a venue in a few lines; only the last test trades on the simulated exchange, over
real sockets.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.core.triggers import Severity
from bot.domain.decisions import Place
from bot.domain.events import Cleared, Obstructed, OrderRejected
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S, Side
from bot.domain.view import View
from bot.journal.run import Run
from bot.modes.account import Account
from bot.modes.demo import on_exchange
from bot.modes.enginerun import new_engine
from bot.modes.execution import EMPTY_NS, PROTECTION, SWEEP_NS_MAX, Execution
from bot.modes.preflight import EXIT_REFUSED
from bot.modes.previous import ACCOUNT
from bot.modes.run import LiveRun
from bot.modes.serve import API_KEY, API_SECRET, new_server
from bot.modes.settings import load
from bot.modes.warmup import warm
from bot.shell.clock import Clock
from bot.shell.gateway import MUTE_NS
from bot.shell.heartbeat import State, read_beat
from bot.shell.inbox import Inbox
from bot.shell.peer import Credentials
from bot.shell.reconcile import Reconciler
from bot.shell.takeover import AnotherInstance
from bot.shell.venueserver import VenueServer
from bot.venues.orderentry import Refusal, Verdict
from tests.shell.fakevenue import LOST, FakeStream, FakeVenue
from tests.shell.virtual import VirtualClock, seconds, virtually
from tests.shell.wire import descriptors, eventually

DEMO = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"
PREFIX = "mm0a1b2c"
KEYS = Credentials(API_KEY, API_SECRET)
EMPTY_S = EMPTY_NS / NS_PER_S
BAD_KEY = Refusal(Verdict.REJECTED, "bad_key", auth=True)


class FakeWire(FakeStream):
    """A venue and its private stream, where a `Wire` would be."""

    def __init__(self) -> None:
        super().__init__()
        self.venue = FakeVenue()
        self.call = self.venue.call
        self.restarts: list[str] = []
        self.closed = False

    def set_offset(self, ns: int) -> None:
        """Its clock is ours."""

    def end_stream(self, why: str) -> None:
        self.restarts.append(why)
        super().end_stream(why)

    async def close(self) -> None:
        self.closed = True


class Scene:
    """An execution on a venue in a few lines; nobody quotes."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, venue: str = "binance-usdm"
    ) -> None:
        self.wire = FakeWire()
        self.venue = self.wire.venue
        monkeypatch.setattr("bot.modes.execution.Wire", lambda *_, **__: self.wire)
        # asyncio-throttle reads the machine's clock
        monkeypatch.setattr("bot.shell.gateway.Throttler", lambda **_: nullcontext())
        loaded = load(DEMO, env={}, sets=[f"venue={venue}"])
        self.validity_s = loaded.settings.execution.recv_window_ms / 1e3
        self.account = Account(loaded, KEYS, {"MMBOT_STATE": str(folder / "state")})
        self.run = Run.create(folder, "run")
        self.run.write_manifest({})
        self.clock = VirtualClock()
        self.inbox = Inbox(self.clock, frames_max=10, bytes_max=10)
        self.engine = new_engine(loaded, PREFIX)
        self.late = False
        self.broken: list[Exception] = []
        self.stops: list[tuple[str, int]] = []
        self.execution = Execution(
            loaded,
            self.account,
            None,
            self.run,
            self.engine,
            PREFIX,
            self.inbox,
            self.clock,
            late=lambda: self.late,
            broke=self.broken.append,
            guard=lambda job: job(),
            stop=lambda why, code: self.stops.append((why, code)),
            rebuild=self._rebuild,
        )

    def _rebuild(self, instrument: Instrument) -> None:
        raise AssertionError("nothing has changed the instrument")

    def heard(self) -> list[Any]:
        """What the engine would learn now."""
        return self.inbox.drain(1_000)

    def place(self, n: int = 1) -> str:
        """Decide an order and send it, as an engine and its pump do."""
        place = Place(f"{PREFIX}-{n}", Side.BUY, 600_000, 10, 0)
        self.engine.orders.placed(place, self.clock.now())
        self.execution.gateway.perform(self.clock.now(), [place])
        return place.order_id

    def rest(self, order_id: str) -> str:
        """An order that is at the venue, whoever sent it."""
        self.venue._place(
            {
                "symbol": "BTCUSDT",
                "newClientOrderId": order_id,
                "side": "BUY",
                "price": "60000.0",
                "quantity": "0.010",
            }
        )
        return order_id

    async def finish(self, patient: Callable[[], bool] = lambda: True) -> tuple[bool, float]:
        """Whether the venue was proved to be empty, and how long it took."""
        began = seconds()
        empty = await self.execution.finish(patient)
        return empty, seconds() - began

    @property
    def beat(self) -> State:
        found = read_beat(self.account.heartbeat)
        assert found is not None
        return found.state

    async def close(self) -> None:
        """Nothing is left running."""
        await self.execution.close()
        self.account.release()
        assert self.wire.closed
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.broken == []


Build = Callable[..., Scene]


@asynccontextmanager
async def running(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A job for as long as the context holds."""
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def nothing(*_: Any) -> None:
    """In place of what a test is not about."""


def cleared(events: list[Any]) -> list[str]:
    return [event.what for event in events if isinstance(event, Cleared)]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    return lambda **options: Scene(tmp_path, monkeypatch, **options)


# --- what stands in the way ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "protection"), [("binance-usdm", "dead_man"), ("binance-spot", "watchdog")]
)
def test_everything_stands_in_the_way_from_the_start(
    build: Build, venue: str, protection: str
) -> None:
    @virtually
    async def test() -> None:
        scene = build(venue=venue)
        events = scene.heard()
        assert all(isinstance(event, Obstructed) for event in events)
        assert {event.what for event in events} >= {"private_stream", "reconcile", protection}
        assert scene.run.read_manifest()[ACCOUNT] == scene.account.name
        assert scene.venue.calls == []
        assert scene.beat is State.QUOTING
        await scene.close()

    test()


@virtually
async def test_what_makes_it_unfit_to_have_orders_rest(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = build()
    healthy = scene.execution.healthy
    assert not healthy()  # whatever the engine has heard by now: the account was not taken over
    for name in ("start", "run"):
        monkeypatch.setattr(Reconciler, name, nothing)
    async with running(scene.execution.stream.run()):
        await asyncio.sleep(1.0)
    now = scene.clock.now()
    scene.engine.apply(Obstructed(now, "private_stream", "away"))
    scene.engine.apply(Obstructed(now, "reconcile", "not read"))
    assert not healthy()
    scene.engine.apply(Cleared(now, "private_stream"))
    assert not healthy()
    scene.engine.apply(Cleared(now, "reconcile"))
    assert healthy()
    for what in PROTECTION:  # else nothing would ever lift them
        scene.engine.apply(Obstructed(now, what, "not armed"))
    assert healthy()
    scene.late = True
    assert not healthy()
    scene.late = False
    for severity in Severity:
        scene.engine.breakers = SimpleNamespace(permission=SimpleNamespace(severity=severity))  # type: ignore[assignment]
        assert healthy() is (severity < Severity.HALTED)
    await scene.close()


@virtually
async def test_the_watchdog_sees_the_turns_of_the_loop(build: Build) -> None:
    scene = build()
    await asyncio.sleep(1.0)
    scene.execution.turned(7)
    beat = read_beat(scene.account.heartbeat)
    assert beat is not None
    assert (beat.turns, beat.state, beat.epoch) == (7, State.QUOTING, PREFIX)
    await scene.close()


# --- the private stream ----------------------------------------------------------------------


@virtually
async def test_the_first_opening_takes_the_account_over_and_later_ones_compare(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = build()
    calls: list[str] = []
    early: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        async def call(*_: Any) -> None:
            calls.append(name)
            await asyncio.sleep(0.1)
            early.extend(cleared(scene.heard()))

        return call

    for name in ("start", "reconnected"):
        monkeypatch.setattr(Reconciler, name, noted(name))

    async def watch(_: Any) -> None:
        calls.append("run")

    monkeypatch.setattr(Reconciler, "run", watch)
    async with running(scene.execution.stream.run()):
        await asyncio.sleep(1.0)
        assert calls == ["start", "run"]
        assert cleared(scene.heard()) == ["private_stream"]
        scene.wire.end_stream("gone")
        await asyncio.sleep(2.0)
        assert calls == ["start", "run", "reconnected"]
        assert early == []  # nothing is cleared before everything missed was pulled
        assert cleared(scene.heard()) == ["private_stream"]
    await scene.close()


@virtually
async def test_an_account_that_refuses_the_key_ends_the_run(build: Build) -> None:
    scene = build()
    scene.venue.before["open_orders"] = [BAD_KEY]
    async with running(scene.execution.stream.run()):
        await asyncio.sleep(1.0)
        ((why, code),) = scene.stops
        assert ("bad_key" in why, code) == (True, EXIT_REFUSED)
    await scene.close()


@virtually
async def test_another_bot_on_the_account_ends_the_run(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = build()

    async def finds(*_: Any) -> None:
        await asyncio.sleep(5.0)
        raise AnotherInstance("another bot places orders")

    monkeypatch.setattr(Reconciler, "start", nothing)
    monkeypatch.setattr(Reconciler, "run", finds)
    async with running(scene.execution.stream.run()):
        await asyncio.sleep(4.0)
        assert scene.stops == []
        await asyncio.sleep(2.0)
        assert scene.stops == [("another bot places orders", EXIT_REFUSED)]
    await scene.close()


@virtually
async def test_a_stream_that_is_mute_about_an_order_is_opened_anew(build: Build) -> None:
    scene = build()
    scene.venue.silent = True
    async with running(scene.execution.gateway.run()):
        order_id = scene.place()
        await asyncio.sleep(MUTE_NS / NS_PER_S - 0.5)
        assert scene.wire.restarts == []
        await asyncio.sleep(1.0)
        assert scene.wire.restarts == [f"mute about {order_id}"]
    await scene.close()


@virtually
async def test_an_order_that_ends_unasked_may_be_the_countdowns_work(build: Build) -> None:
    scene = build()
    scene.venue.hear = scene.execution.gateway.heard
    order_id = scene.place()
    await asyncio.sleep(0.1)
    await scene.execution.dead_man.arm()
    scene.heard()
    scene.venue.end(order_id, "CANCELED")
    told = [event for event in scene.heard() if isinstance(event, Obstructed)]
    assert [event.what for event in told] == ["dead_man"]
    await scene.close()


# --- the end ---------------------------------------------------------------------------------


@virtually
async def test_two_empty_lists_half_a_second_apart_are_a_proof(build: Build) -> None:
    scene = build()
    await scene.execution.dead_man.arm()
    assert scene.venue.countdown_ms
    scene.heard()
    empty, took = await scene.finish()
    assert empty
    assert EMPTY_S <= took < EMPTY_S + 0.3
    first, *between, last = scene.venue.calls[1:]
    assert (first, last) == ("open_orders", "countdown")
    assert set(between) == {"open_orders"}
    assert scene.venue.countdown_ms == 0  # disarmed, and only then
    assert scene.beat is State.STOPPED
    assert scene.heard() == []  # nothing is quoted any more: no obstacle is news
    await scene.close()


@virtually
async def test_nothing_is_proved_while_what_was_sent_last_may_still_arrive(build: Build) -> None:
    scene = build()
    scene.venue.hold["place"] = asyncio.Event()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    sent_at = seconds()
    asyncio.get_running_loop().call_later(0.7 * scene.validity_s, scene.venue.hold["place"].set)
    empty, _ = await scene.finish()
    assert empty
    assert scene.venue.orders[order_id]["status"] == "CANCELED"  # it came to life, and was found
    assert scene.venue.open() == []
    assert seconds() >= sent_at + scene.validity_s - 0.1
    await scene.close()


@virtually
async def test_an_empty_venue_has_to_stay_so_behind_the_validity(build: Build) -> None:
    scene = build()
    scene.venue.before["place"] = [LOST]
    scene.place()
    await asyncio.sleep(0.001)  # it leaves
    empty, took = await scene.finish()
    assert empty
    assert scene.validity_s <= took < scene.validity_s + 0.5
    await scene.close()


@virtually
async def test_what_is_left_is_cancelled_until_it_is_gone_and_others_are_not(build: Build) -> None:
    scene = build()
    own = [scene.rest(f"{PREFIX}-7"), scene.rest("mm9f9f9f-3")]  # this run's, and an older one's
    foreign = scene.rest("by-hand")
    scene.venue.before["cancel"] = [LOST, LOST, LOST]
    with capture_logs() as lines:
        empty, took = await scene.finish()
    assert empty
    assert took >= 2 * EMPTY_S
    assert [scene.venue.orders[order_id]["status"] for order_id in own] == ["CANCELED"] * 2
    assert scene.venue.open() == [foreign]
    assert [line["event"] for line in lines].count("stray_not_cancelled") == 3
    await scene.close()


@virtually
async def test_a_failed_question_proves_nothing_and_begins_anew(build: Build) -> None:
    scene = build()
    scene.venue.garbage["open_orders"] = [[], {"code": "nonsense"}]
    with capture_logs() as lines:
        empty, took = await scene.finish()
    assert empty
    assert [line["event"] for line in lines] == ["sweep_failed"]
    assert took >= 2 * EMPTY_S / 2 + EMPTY_S  # the first empty list counts no more
    await scene.close()


@virtually
async def test_a_venue_that_does_not_answer_is_given_up_with_the_countdown_running(
    build: Build,
) -> None:
    scene = build()
    await scene.execution.dead_man.arm()
    armed = scene.venue.countdown_ms
    scene.venue.before["open_orders"] = [LOST] * 1_000
    empty, took = await scene.finish()
    assert not empty
    assert SWEEP_NS_MAX / NS_PER_S <= took < SWEEP_NS_MAX / NS_PER_S + 1.0
    assert scene.venue.countdown_ms == armed
    assert scene.beat is State.QUOTING  # the watchdog has to act
    await scene.close()


@virtually
async def test_nobody_waits_when_nobody_is_patient(build: Build) -> None:
    scene = build()
    assert await scene.finish(lambda: False) == (False, 0.0)
    assert scene.venue.calls == []
    patience = iter([True, True, False])
    empty, took = await scene.finish(lambda: next(patience))
    assert (empty, took < 1.0) == (False, True)
    assert "countdown" not in scene.venue.calls
    assert scene.beat is State.QUOTING
    await scene.close()


@virtually
async def test_nothing_but_cancels_leaves_at_the_end(build: Build) -> None:
    scene = build()
    resting = scene.place(1)
    await asyncio.sleep(0.1)
    end = asyncio.create_task(scene.execution.finish(lambda: True))
    await asyncio.sleep(0)
    late = scene.place(2)
    assert await end
    assert late not in scene.venue.orders
    assert scene.venue.orders[resting]["status"] == "CANCELED"
    refused = [event for event in scene.heard() if isinstance(event, OrderRejected)]
    assert [event.order_id for event in refused] == [late]
    await scene.close()


@virtually
async def test_closing_ends_what_is_under_way(build: Build) -> None:
    scene = build()
    scene.venue.before["order"] = [LOST] * 1_000
    scene.venue.before["place"] = [LOST]
    scene.place()
    await asyncio.sleep(1.0)  # somebody asks what became of it
    assert len(asyncio.all_tasks()) > 1
    await scene.close()


# --- on the simulated exchange, over real sockets --------------------------------------------


class Witness:
    """Notes in which order obstacles came and went, and when the first order was decided."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.standing: list[set[str]] = []  # obstacles while an order was decided
        self._stands: set[str] = set()

    def trust(self, now: int, trusted: bool) -> None:
        """Nothing of interest."""

    def learned(self, event: object, engine: object) -> None:
        if isinstance(event, Obstructed):
            self._stands.add(event.what)
            self.notes.append(f"+{event.what}")
        elif isinstance(event, Cleared):
            self._stands.discard(event.what)
            self.notes.append(f"-{event.what}")

    def decided(self, now: int, decisions: Any, engine: object) -> None:
        if any(isinstance(one, Place) for one in decisions):
            self.standing.append(set(self._stands))
            self.notes.append("place")


@pytest.fixture
async def server() -> AsyncIterator[VenueServer]:
    warm()
    async with new_server(load(DEMO, env={}).instrument, Clock()) as served:
        yield served


def open_orders(server: VenueServer) -> list[str]:
    """Client ids of what rests in the exchange's own books."""
    return [order.client_id for order in server.desk.seats[0].account.open_orders()]  # type: ignore[attr-defined]


async def traded(
    server: VenueServer, folder: Path, until: Callable[[LiveRun, View], None]
) -> tuple[int, LiveRun, Witness]:
    """A run on the exchange that `until` ends."""
    sets = [f"run.folder={folder / 'runs'}", "web.enabled=false"]
    loaded = on_exchange(load(DEMO, env={}, sets=sets), f"http://127.0.0.1:{server.port}")
    witness = Witness()
    with Account(loaded, KEYS, {"MMBOT_STATE": str(folder / "state")}) as account:
        live = LiveRun(loaded, account, eyes=(witness,), on_sample=until, sample_s=0.02)
        async with asyncio.timeout(30.0):
            code = await live.go()
    return code, live, witness


async def test_obstacles_clear_in_order_and_nothing_is_left(
    server: VenueServer, tmp_path: Path
) -> None:
    rested: list[int] = []

    def until(live: LiveRun, view: View) -> None:
        if len(open_orders(server)) >= 2 and not rested:
            rested.append(len(open_orders(server)))
            live.stop("seen enough")

    gc.collect()
    before = (descriptors(), asyncio.all_tasks())
    with capture_logs() as lines:
        code, live, witness = await traded(server, tmp_path, until)
    assert (code, rested != [], open_orders(server)) == (0, True, [])
    errors = {line["event"] for line in lines if line["log_level"] == "error"}
    assert errors == {"obstructed"}  # as it was from the start
    steps = ("-reconcile", "-private_stream", "-dead_man", "place")
    order = [witness.notes.index(step) for step in steps]
    assert order == sorted(order)
    assert not any(witness.standing)  # no order was decided while anything stood in its way
    assert live.execution is not None
    found = read_beat(live.execution.heartbeat.path)
    assert found is not None
    assert found.state is State.STOPPED
    gc.collect()
    # The exchange is in this process too, and sees the sockets close a little later.
    await eventually(lambda: (descriptors(), asyncio.all_tasks()) == before)
