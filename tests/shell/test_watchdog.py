"""The watchdog over a venue of the test's own: in virtual time, and beside a bot that is killed."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot.domain.units import Side
from bot.shell.clock import Clock
from bot.shell.heartbeat import Heartbeat, Pulse, State, pid_namespace, read_beat
from bot.shell.watchdog import Watchdog
from bot.shell.wire import CallFailed
from bot.venues.orderentry import Call, OrderReport, Priority, Refusal, Status, Verdict
from tests.shell.virtual import VirtualClock, seconds, virtually
from tests.shell.wire import eventually

UNKNOWN = Refusal(Verdict.UNKNOWN, "timeout")
ABSENT = Refusal(Verdict.ABSENT, "no_such_order")
OURS = ("mm1-1", "mm1-2", "mm0-9")  # the last one of an earlier run
THEIRS = ("web_1", "other-2")


def is_own(order_id: str) -> bool:
    return order_id.startswith("mm")


class Venue:
    """Orders that rest, and a language of three words; every call is noted with its second."""

    def __init__(self, *order_ids: str) -> None:
        self.open = list(order_ids)
        self.calls: list[tuple[float, str]] = []
        self.refusals: list[Refusal] = []  # of the next calls, one each
        self.down = False
        self.stuck = False
        self.late: list[tuple[float, str]] = []  # orders that rest from a second on
        self.garbled = 0  # answers that are none

    def open_orders(self) -> Call:
        return Call("open", {}, Priority.CANCEL)

    def cancel(self, order_id: str) -> Call:
        return Call("cancel", {"id": order_id}, Priority.CANCEL)

    def cancel_all(self) -> Call:
        return Call("cancel_all", {}, Priority.CANCEL)

    def read_orders(self, body: Any) -> list[OrderReport]:
        if not isinstance(body, list):
            raise ValueError("no list")
        return [OrderReport(one, "1", Status.OPEN, Side.BUY, 1, 1, 0) for one in body]

    async def call(self, call: Call) -> Any:
        order_id = call.params.get("id", "")
        self.calls.append((seconds(), f"{call.method} {order_id}".strip()))
        await asyncio.sleep(0)
        if self.stuck:
            await asyncio.Event().wait()
        if self.refusals:
            raise CallFailed(self.refusals.pop(0))
        if self.down:
            raise CallFailed(UNKNOWN)
        self.open += [one for at, one in self.late if at <= seconds()]
        self.late = [(at, one) for at, one in self.late if at > seconds()]
        return self._answer(call.method, order_id)

    def _answer(self, method: str, order_id: str) -> Any:
        if method == "cancel_all":
            self.open.clear()
            return {"code": 200}
        if method == "cancel":
            if order_id not in self.open:
                raise CallFailed(ABSENT)
            self.open.remove(order_id)
            return {}
        if self.garbled:
            self.garbled -= 1
            return {"unexpected": True}
        return list(self.open)

    def named(self, method: str) -> list[tuple[float, str]]:
        return [(at, name) for at, name in self.calls if name.split()[0] == method]


class Bench:
    """A watchdog in virtual time, and the heartbeat of a bot that is this process."""

    def __init__(self, folder: Path, venue: Venue, *, exclusive: bool = False) -> None:
        self.venue = venue
        self.clock = VirtualClock()
        self.bot_path = folder / "x.bot"
        self.own_path = folder / "x.watchdog"
        self.turns = 0
        self.bot = self.new_bot("mm1")
        self.own = Heartbeat(
            self.own_path, self.clock, epoch="w", venue="v", symbol="S", state=State.BLIND
        )
        self.watchdog = Watchdog(
            venue.call,
            venue,
            is_own,
            Pulse(self.bot_path),
            self.own,
            self.clock,
            validity_ms=2_000,
            exclusive=exclusive,
        )

    def new_bot(self, epoch: str) -> Heartbeat:
        self.turns = 0
        return Heartbeat(
            self.bot_path, self.clock, epoch=epoch, venue="v", symbol="S", state=State.QUOTING
        )

    async def beats(self, for_s: float, state: State = State.QUOTING) -> None:
        """Let the bot's loop turn for a while."""
        for _ in range(round(for_s / 0.25)):
            self.turns += 1
            self.bot.beat(self.turns, state)
            await asyncio.sleep(0.25)

    @property
    def sight(self) -> State:
        beat = read_beat(self.own_path)
        assert beat is not None
        return beat.state

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watchdog.run())
        yield
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        self.bot.close()
        self.own.close()


@virtually
async def test_a_bot_that_turns_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(60)
    assert bench.venue.open == list(OURS)
    assert {name for _, name in bench.venue.calls} == {"open"}
    assert bench.watchdog.tally.rescues == 0


@virtually
async def test_what_is_ours_is_cancelled_three_seconds_after_the_last_turn(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Venue(*OURS, *THEIRS))
    async with bench.running():
        await bench.beats(10)
        with capture_logs() as logs:
            await asyncio.sleep(10)
        assert bench.venue.open == list(THEIRS)
        cancels = bench.venue.named("cancel")
        assert [name for _, name in cancels] == [f"cancel {one}" for one in OURS]
        assert all(9.75 + 3.0 <= at <= 9.75 + 3.5 for at, _ in cancels)
        tally = bench.watchdog.tally
        assert (tally.rescues, tally.rescues_done, tally.cancelled) == (1, 1, 3)
        assert repr(bench.watchdog).startswith("<Watchdog watching <Pulse of x.bot")
    assert [line["event"] for line in logs] == ["bot_lost", "cancelled", "venue_is_empty"]
    assert logs[0]["why"] == "its loop has not turned for 3.0 s"


@virtually
async def test_it_says_empty_after_two_reads_and_when_no_request_can_be_under_way(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    bench.venue.late = [(13.9, "mm1-3")]  # was in flight when the bot died
    async with bench.running():
        await bench.beats(10)
        await asyncio.sleep(20)
    assert bench.venue.open == []
    began = bench.venue.named("cancel")[0][0]
    # Then only a probe every 5 s.
    last = [at for at, name in bench.venue.calls if name == "open" and at < began + 4.0][-2:]
    assert last[1] - last[0] >= 0.5
    assert last[1] - began >= 2.0
    assert bench.watchdog.tally.cancelled == 4


@virtually
async def test_a_stopped_bot_may_be_silent(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(2)
        bench.bot.beat(bench.turns, State.STOPPED)
        await asyncio.sleep(60)
    assert bench.venue.named("cancel") == []


@virtually
async def test_an_exclusive_account_is_emptied_by_one_request(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS, *THEIRS), exclusive=True)
    async with bench.running():
        await asyncio.sleep(8)
    assert bench.venue.open == []
    assert len(bench.venue.named("cancel_all")) == 1
    assert bench.watchdog.tally.rescues_done == 1


@virtually
async def test_an_exclusive_account_that_refuses_it_is_emptied_one_by_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS), exclusive=True)
    async with bench.running():
        await asyncio.sleep(2.9)
        bench.venue.refusals = [UNKNOWN]
        await asyncio.sleep(6)
    assert bench.venue.open == []


@virtually
async def test_it_never_gives_up_on_a_venue_that_is_away(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(10)
        bench.venue.down = True
        with capture_logs() as logs:
            await asyncio.sleep(600)
        assert bench.sight is State.BLIND
        asked = [at for at, _ in bench.venue.calls if at > 20]
        assert max(b - a for a, b in pairwise(asked)) <= 1.001
        bench.venue.down = False
        await asyncio.sleep(1.1)
        assert bench.venue.open == []
        assert bench.sight is State.WATCHING
        await asyncio.sleep(5)
    assert bench.watchdog.tally.rescues_done == 1
    assert sorted(line["event"] for line in logs) == ["bot_lost", "call_failed"]


@virtually
@pytest.mark.parametrize("fault", ["stuck", "garbled"])
async def test_no_answer_is_no_empty_venue(tmp_path: Path, fault: str) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(2)
        setattr(bench.venue, fault, 10**9)
        await asyncio.sleep(30)
        assert bench.watchdog.tally.rescues_done == 0
        setattr(bench.venue, fault, 0)
        await asyncio.sleep(10)
    assert bench.venue.open == []
    assert bench.watchdog.tally.rescues_done == 1


@virtually
async def test_a_venue_that_bans_is_not_asked_until_it_may_be(tmp_path: Path) -> None:
    # F48
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(10)
        bench.venue.refusals = [Refusal(Verdict.REJECTED, "banned", limited_s=60, banned=True)]
        await asyncio.sleep(80)
    times = sorted({at for at, _ in bench.venue.calls if at >= 10})
    assert times[1] - times[0] == pytest.approx(60.1, abs=0.2)
    assert bench.venue.open == []


@virtually
async def test_cancels_that_are_refused_are_repeated_and_absent_orders_are_not_missed(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    call = bench.venue.call

    async def faulty(call_: Call) -> Any:
        if call_.params.get("id") == OURS[0] and OURS[0] in bench.venue.open:
            bench.venue.open.remove(OURS[0])  # filled while the cancel was under way
        if call_.params.get("id") == OURS[1] and seconds() < 9.5:
            raise CallFailed(UNKNOWN)
        return await call(call_)

    bench.watchdog._call = faulty
    async with bench.running():
        await bench.beats(6)
        await asyncio.sleep(13)
    assert bench.venue.open == []
    tally = bench.watchdog.tally
    assert (tally.cancelled, tally.rescues_done) == (2, 1)
    assert tally.failures > 1  # and the absent order is none of them


@virtually
async def test_the_bot_that_turns_again_takes_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(2)
        bench.venue.down = True
        await asyncio.sleep(10)
        with capture_logs() as logs:
            await bench.beats(2)
        bench.venue.down = False
        await bench.beats(20)
        assert bench.venue.open == list(OURS)
        assert "bot_is_back" in [line["event"] for line in logs]
        await asyncio.sleep(10)  # and is lost once more
    assert bench.venue.open == []
    assert bench.watchdog.tally.rescues == 2


@virtually
async def test_a_new_run_is_watched_afresh(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(2)
        await asyncio.sleep(10)
        assert bench.venue.open == []
        bench.bot.close()
        bench.bot = bench.new_bot("mm2")
        bench.venue.open = ["mm2-1"]
        await bench.beats(10)
        assert bench.venue.open == ["mm2-1"]
        await asyncio.sleep(4)
    assert bench.venue.open == []
    assert bench.watchdog.tally.rescues == 2


@virtually
async def test_it_acts_once_for_one_death_and_its_heart_beats_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await asyncio.sleep(60)
        beat = read_beat(bench.own_path)
    assert beat is not None
    assert beat.turns >= 230
    assert bench.watchdog.tally.rescues == 1


@virtually
async def test_a_torn_heartbeat_is_no_death_and_no_life(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    async with bench.running():
        await bench.beats(4)
        whole = bench.bot_path.read_bytes()
        bench.bot_path.write_bytes(whole[:100])
        await asyncio.sleep(2)
        assert bench.venue.named("cancel") == []
        await asyncio.sleep(2)
    assert bench.venue.open == []


@virtually
async def test_without_any_bot_it_only_keeps_its_line_open(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    bench.bot_path.unlink()
    async with bench.running():
        assert bench.sight is State.BLIND
        await asyncio.sleep(0.6)
        assert bench.sight is State.WATCHING
        await asyncio.sleep(30)
    assert [at for at, _ in bench.venue.calls] == [0, 5, 10, 15, 20, 25, 30]


@virtually
async def test_it_stops_at_once_and_says_that_nobody_may_rely_on_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    task = asyncio.create_task(bench.watchdog.run())
    await bench.beats(5)
    assert bench.sight is State.WATCHING
    bench.watchdog.stop()
    bench.watchdog.stop()
    await asyncio.sleep(0.25)
    assert task.done()
    assert await task is True
    assert bench.sight is State.BLIND
    assert bench.venue.open == list(OURS)


@virtually
@pytest.mark.parametrize("down", [False, True])
async def test_a_rescue_under_way_is_finished_first_or_given_up(tmp_path: Path, down: bool) -> None:
    bench = Bench(tmp_path, Venue(*OURS))
    task = asyncio.create_task(bench.watchdog.run())
    await asyncio.sleep(2.6)
    bench.venue.down = down
    await asyncio.sleep(0.5)
    bench.watchdog.stop()
    began = seconds()
    assert await task is not down
    assert seconds() - began <= 10.5
    assert (bench.venue.open == []) is not down


@virtually
async def test_a_fault_of_ours_ends_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Venue(*OURS))

    def broken(order_id: str) -> Call:
        raise ZeroDivisionError

    bench.venue.cancel = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await bench.watchdog.run()


# --- a real process that is killed -------------------------------------------------------------

BOT = """
import sys, time
from pathlib import Path
from bot.shell.clock import Clock
from bot.shell.heartbeat import Heartbeat, State
heart = Heartbeat(
    Path(sys.argv[1]), Clock(), epoch=sys.argv[2], venue="v", symbol="S", state=State.QUOTING
)
print("beating", flush=True)
for turn in range(1, 100_000):
    heart.beat(turn, State.QUOTING)
    time.sleep(0.01)
"""


@contextmanager
def bot(path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that does nothing but beat."""
    with subprocess.Popen(
        [sys.executable, "-c", BOT, str(path), "mm1"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "beating\n"
        yield process
        process.kill()


async def rescued_after(tmp_path: Path, kill: signal.Signals) -> float:
    """Seconds from a signal to the bot until the venue is empty, on real time."""
    clock, venue = Clock(), Venue(*OURS, *THEIRS)
    own = Heartbeat(tmp_path / "w", clock, epoch="w", venue="v", symbol="S", state=State.BLIND)
    with bot(tmp_path / "b") as process:
        watchdog = Watchdog(
            venue.call, venue, is_own, Pulse(tmp_path / "b"), own, clock, validity_ms=2_000
        )
        task = asyncio.create_task(watchdog.run())
        await asyncio.sleep(0.6)
        assert venue.named("cancel") == []
        process.send_signal(kill)
        began = time.monotonic()
        await eventually(lambda: venue.open == list(THEIRS))
        took = time.monotonic() - began
        task.cancel()
        await asyncio.wait([task])
    own.close()
    return took


@pytest.mark.skipif(not pid_namespace(), reason="a killed child is seen only with /proc")
async def test_a_killed_bot_is_noticed_within_half_a_second(tmp_path: Path) -> None:
    # F24
    assert await rescued_after(tmp_path, signal.SIGKILL) < 0.5 + 1.0  # on a busy machine


async def test_a_bot_that_hangs_is_noticed_within_five_seconds(tmp_path: Path) -> None:
    assert 2.5 < await rescued_after(tmp_path, signal.SIGSTOP) < 5.0
