"""The bot on the simulated exchange: limits, dead-man's switch, partitions, clocks (RISK 9)."""

import time
from pathlib import Path
from typing import Final

import pytest

from bot.core.triggers import Severity
from bot.domain.events import UNSENT, Obstructed, OrderRejected
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.modes.run import EXIT_KILLED
from bot.shell import venuetime
from bot.venues.binance.failures import COUNTDOWN, PLACEMENTS
from tests.modes.quietvenue import Seen
from tests.modes.trading import SWITCH_S, Scenario, Stage, brief, outcomes, trading

QUICK: Final = "execution.request_timeout_ms=1000"
SWITCH: Final = "countdownCancelAll"
BACK_S: Final = 25.0
REFUSED_MAX: Final = 6  # a storm of rejections is one of five; one more may be on its way
EMPTIED_S: Final = 1.0  # from the end of a countdown until nothing rests


async def gone(stage: Stage, timeout_s: float) -> None:
    await stage.until(
        lambda: not stage.venue.account.open_orders(), timeout_s, "nothing rests at the venue"
    )


def stood(stage: Stage, what: str, since: int = 0) -> list[object]:
    """Times that an obstacle came to stand."""
    return [
        event
        for event in stage.events(Obstructed)
        if isinstance(event, Obstructed) and event.what == what and event.at >= since
    ]


# --- limits -----------------------------------------------------------------------------------


async def f47_too_many_requests(folder: Path) -> None:
    silence_s = 3
    async with trading(folder) as stage:
        stage.faults.throttle(silence_s, PLACEMENTS)
        stage.venue.fill(Side.BUY, stage.venue.resting(Side.BUY)[0].lots)
        await stage.until(lambda: stage.faults.met("throttle"), 5.0, "429")
        told_at = stage.live.clock.now()
        await stage.pause(0.5)
        asked_at = stage.live.clock.now()
        stage.obstruct()
        await gone(stage, 1.0)  # cancels have a reserve of their own
        n = len(stage.venue.account.orders())
        stage.clear()
        await stage.until(
            lambda: stage.live.clock.now() > told_at + (silence_s - 0.3) * NS_PER_S, 5.0
        )
        # But for those that were on their way when it came, nothing else was asked meanwhile.
        rest = [one for one in stage.venue.requests if told_at + 100 * NS_PER_MS < one.at]
        assert {harmless(one) for one in rest} == {True}, rest
        assert len(stage.venue.account.orders()) == n
        assert stage.venue.asked("DELETE", "/order", asked_at)
        await stage.converge(BACK_S)
        assert stage.faults.met("throttle") == 1


def harmless(one: Seen) -> bool:
    """What may be asked after a 429: cancels, what protects us, and public web sockets."""
    return one.method == "DELETE" or one.path.endswith(SWITCH)


# --- the dead-man's switch --------------------------------------------------------------------


async def f49_refresh_fails_once(folder: Path) -> None:
    async with trading(folder) as stage:
        await stage.hurry()
        own = stage.witness.believed()
        stage.faults.fail_before(COUNTDOWN, "503")
        await stage.until(lambda: stage.faults.met("fail_before"), 3.0, "a refresh that fails")
        since = stage.live.clock.now()
        await stage.until(lambda: len(stage.venue.asked("POST", SWITCH, since)) >= 3, 5.0, "more")
        assert not stood(stage, "dead_man", since)
        assert stage.witness.believed() == own  # nobody minded
        await stage.converge()


async def f49_refresh_fails_thrice(folder: Path) -> None:
    async with trading(folder) as stage:
        await stage.hurry()
        since = stage.live.clock.now()
        stage.faults.fail_before(COUNTDOWN, "503", times=None)
        # Before the venue's own countdown ends: the cancels are ours.
        await gone(stage, SWITCH_S - 0.5)
        assert stage.faults.met("fail_before") <= 4
        assert stood(stage, "dead_man", since)
        assert len(stage.venue.asked("DELETE", "/order", since)) >= 4
        placed = len(stage.witness.placed)
        await stage.pause(1.0)
        assert len(stage.witness.placed) == placed
        stage.faults.heal()
        await stage.converge(BACK_S)


async def f50_not_refreshed_after_a_kill(folder: Path) -> None:
    async with trading(folder, "risk.loss_budget=1.0") as stage:
        stage.code = EXIT_KILLED
        await stage.hurry()
        # All bids trade, and the price is 300 lower: more than the budget is lost.
        stage.venue.fill(Side.BUY, sum(order.lots for order in stage.venue.resting(Side.BUY)))
        stage.venue.market.shift(-3_000)
        await stage.until(
            lambda: stage.engine.breakers.permission.severity >= Severity.HALTED, 3.0, "HALTED"
        )
        await gone(stage, 1.0)
        since = stage.live.clock.now() + 50 * NS_PER_MS
        placed = len(stage.witness.placed)
        await stage.pause(2.5)
        assert stage.venue.asked("POST", SWITCH, since) == []
        assert len(stage.witness.placed) == placed
        assert stage.engine.breakers.permission.severity >= Severity.HALTED


async def f51_fired_unexpectedly(folder: Path) -> None:
    async with trading(folder) as stage:
        own = stage.witness.believed()
        since = stage.live.clock.now()
        stage.venue.account.arm(stage.venue.clock() // NS_PER_MS)
        await stage.until(lambda: stood(stage, "dead_man", since), 3.0, "noticed")
        await stage.until(lambda: not own & stage.witness.believed(), 3.0, "told")
        placed = len(stage.witness.placed)
        await stage.pause(4.0)
        assert len(stage.witness.placed) == placed  # no instant quotes
        assert not stage.venue.account.open_orders()
        await stage.converge(BACK_S)


# --- partitions -------------------------------------------------------------------------------


async def f52_cut_off(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        await stage.hurry()
        best = stage.venue.resting(Side.BUY)[0]
        stage.faults.partition(both=True)
        stage.venue.fill(Side.BUY, best.lots)
        assert stage.venue.account.open_orders()
        await gone(stage, SWITCH_S + EMPTIED_S)  # by the venue's countdown, nothing else arrives
        n = len(stage.venue.account.orders())
        await stage.pause(2.0)
        assert len(stage.venue.account.orders()) == n
        stage.faults.heal()
        await stage.converge(BACK_S)
        assert stage.engine.ledger.position_lots == best.lots
        assert stage.engine.ledger.n_fills == 1


async def f53_nothing_leaves(folder: Path) -> None:
    """The feed and the private stream still arrive."""
    async with trading(folder, QUICK) as stage:
        await stage.hurry()
        best = stage.venue.resting(Side.SELL)[0]
        since = stage.live.clock.now()
        stage.faults.partition()
        stage.venue.fill(Side.SELL, best.lots)
        await stage.until(
            lambda: stage.engine.orders.blocked(Side.SELL), 4.0, "a placement without an answer"
        )
        await stage.until(lambda: stood(stage, "dead_man", since), SWITCH_S, "PAUSE")
        await gone(stage, SWITCH_S + EMPTIED_S)
        assert stage.engine.book.trusted
        placed = len(stage.witness.placed)
        await stage.pause(1.0)
        assert len(stage.witness.placed) == placed
        stage.faults.heal()
        await stage.converge(BACK_S)
        assert stage.engine.ledger.n_fills == 1


# --- clocks -----------------------------------------------------------------------------------


async def stepped(stage: Stage, seconds: float) -> None:
    """The clocks come apart: it is noticed, nothing rests, and the difference is measured."""
    stage.venue.step_ns = round(seconds * NS_PER_S)
    since = stage.live.clock.now()
    stage.venue.fill(Side.BUY, stage.venue.resting(Side.BUY)[0].lots)
    await stage.until(lambda: stood(stage, "clock", since), 5.0, "noticed")
    await gone(stage, 3.0)
    await stage.until(lambda: off(stage, -seconds), 3.0, "measured")


def off(stage: Stage, seconds: float) -> bool:
    """Whether the bot knows its clock to be so far ahead of the venue's."""
    ahead = stage.execution.time.ahead_ns
    return ahead is not None and abs(ahead / NS_PER_S - seconds) < 0.1


async def f58_venue_ahead(folder: Path) -> None:
    async with trading(folder) as stage:
        await stepped(stage, 2.5)
        refused = [getattr(event, "reason", "") for event in stage.events(OrderRejected)]
        assert 1 <= refused.count("clock") <= REFUSED_MAX
        assert set(refused) <= {"clock", UNSENT}
        await stage.converge(BACK_S)


async def f58_venue_behind(folder: Path) -> None:
    """Every message of the market seems to be old: only when clocks agree again it is quoted."""
    async with trading(folder) as stage:
        await stepped(stage, -2.5)
        placed = len(stage.witness.placed)
        await stage.pause(1.0)
        assert "stale:age" in stage.witness.trips
        assert len(stage.witness.placed) == placed
        stage.venue.step_ns = 0
        await stage.until(lambda: off(stage, 0.0), 8.0, "measured again")
        await stage.converge(BACK_S)


async def f59_clock_storm(folder: Path) -> None:
    async with trading(folder) as stage:
        since = stage.live.clock.now()
        stage.faults.clock_storm()
        stage.venue.fill(Side.BUY, stage.venue.resting(Side.BUY)[0].lots)
        await stage.until(lambda: stood(stage, "clock", since), 5.0, "PAUSE")
        placed = len(stage.witness.placed)
        tried = len(stage.venue.asked("POST", "rder", since))
        compared = len(stage.venue.asked("GET", "/time", since))
        await stage.pause(3.0)
        assert len(stage.witness.placed) == placed
        assert len(stage.venue.asked("POST", "rder", since)) == tried <= REFUSED_MAX
        # Comparisons are of five questions, and come at their pace.
        most = 5 * (1 + 3 * NS_PER_S // venuetime.AGAIN_NS)
        assert len(stage.venue.asked("GET", "/time", since)) - compared <= most
        assert compared <= 5
        # Cancels are tried again, at a pace: three orders, four times a second.
        assert len(stage.venue.asked("DELETE", "/order", since)) <= 3 * 4 * 4
        stage.faults.heal()
        await stage.converge(BACK_S)


SCENARIOS: Final[dict[str, Scenario]] = {
    "F47 429": f47_too_many_requests,
    "F49 refresh fails once": f49_refresh_fails_once,
    "F49 refresh fails thrice": f49_refresh_fails_thrice,
    "F50 killed": f50_not_refreshed_after_a_kill,
    "F51 fired": f51_fired_unexpectedly,
    "F52 cut off": f52_cut_off,
    "F53 nothing leaves": f53_nothing_leaves,
    "F58 venue ahead": f58_venue_ahead,
    "F58 venue behind": f58_venue_behind,
    "F59 storm": f59_clock_storm,
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exception | None]:
    return outcomes(request, SCENARIOS, tmp_path_factory.mktemp("limits"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_limit(name: str, results: dict[str, Exception | None]) -> None:
    error = results[name]
    if error is not None:
        raise error


async def test_a_step_of_the_machines_clock_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with brief():
        async with trading(tmp_path) as stage:
            seconds, ns = time.time, time.time_ns
            for step in (2, -2, 3_600):  # an operator, NTP, summer time
                monkeypatch.setattr(time, "time", lambda step=step: seconds() + step)
                monkeypatch.setattr(time, "time_ns", lambda step=step: ns() + step * NS_PER_S)
                since = stage.live.clock.now()
                stage.venue.fill(Side.BUY, 5)
                await stage.until(
                    lambda: stage.engine.ledger.position_lots == stage.witness.venue_position(),
                    3.0,
                )
                await stage.converge()
                assert stage.live.clock.now() - since < 10 * NS_PER_S
            assert not stage.events(OrderRejected)
            assert not stood(stage, "clock")
