"""`mmbot` as child processes beside a venue of the test's own: started, watched, killed."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bot.domain.account import AccountOrder
from bot.domain.decisions import Place
from bot.domain.units import Side
from bot.journal.log import Decided, Learned, read_log
from bot.journal.run import Run
from bot.modes.serve import API_KEY, API_SECRET
from bot.venues.binance.ids import is_own
from tests.modes.quietvenue import Venue, quiet_venue
from tests.modes.trading import CONFIGS, ROOT, loaded_for

START_S: Final = 120.0  # until a child quotes, on a machine with one core for all of them
END_S: Final = 120.0
POLL_S: Final = 0.005

# The command line as it is, with more levels than a configuration may have.
MANY_LEVELS: Final = """
import sys
from msgspec.structs import replace
from bot import cli
from bot.modes.settings import params_of
real = cli.loaded

def loaded(path, sets):
    found = real(path, sets)
    ladder = found.settings.ladder.model_copy(update={"sizes_units": (1.0,) * 6})
    settings = found.settings.model_copy(update={"ladder": ladder})
    return replace(found, settings=settings, params=params_of(settings))

cli.loaded = loaded
sys.argv[0] = "mmbot"
cli.app()
"""


class Child:
    """One `mmbot` process; what it writes lies in files, so that it never waits for a reader."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, began: float) -> None:
        self.folder = folder
        self.process = process
        self.began = began

    def log(self) -> list[dict[str, Any]]:
        """What it logged so far, whole lines only."""
        text = (self.folder / "stderr").read_text()
        return [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == event]

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def result(self) -> dict[str, Any]:
        """What it printed at its end."""
        found = json.loads((self.folder / "stdout").read_text())
        assert isinstance(found, dict)
        return found

    def signal(self, name: signal.Signals) -> float:
        """Send a signal; when, by the monotonic clock."""
        at = time.monotonic()
        self.process.send_signal(name)
        return at

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(END_S):
            return await self.process.wait()

    def __repr__(self) -> str:
        return f"<Child {self.process.pid} {self.process.returncode} {self.stderr()[-2_000:]}>"


class Yard:
    """A venue and the processes around it; one state folder and one folder of runs."""

    def __init__(self, venue: Venue, folder: Path) -> None:
        self.venue = venue
        self.folder = folder
        self.name = venue.loaded.settings.venue
        self.faults = venue.faults
        self._children: list[Child] = []

    async def start(
        self,
        command: str,
        *sets: str,
        state: str = "state",
        runs: str = "runs",
        script: str = "",
    ) -> Child:
        """Start `mmbot <command>` on the venue."""
        base = f"http://{self.venue.server.sockets.host}:{self.venue.server.port}"
        values = [
            "web.enabled=false", f"run.folder={self.folder / runs}", f"feed.base_url={base}",
            "account.api_key_file=null", "account.secret_file=null",
            "execution.request_timeout_ms=2000", "execution.dead_man_s=10", *sets,
        ]  # fmt: skip
        start = ["-c", script] if script else ["-m", "bot"]
        arguments = [*start, command, str(CONFIGS[self.name])]
        folder = self.folder / f"child-{len(self._children)}"
        folder.mkdir()
        env = {**os.environ, "MMBOT_STATE": str(self.folder / state)}
        env |= {"MMBOT_API_KEY": API_KEY, "MMBOT_SECRET": API_SECRET}
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, *(f"--set={one}" for one in values), "--json",
                cwd=ROOT, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        child = Child(folder, process, time.monotonic())
        self._children.append(child)
        return child

    async def until(
        self, met: Callable[[], object], child: Child | None = None, timeout_s: float = START_S
    ) -> float:
        """Wait for a condition; the time it came true. A child that ends meanwhile is told."""
        try:
            async with asyncio.timeout(timeout_s):
                while not met():
                    if child is not None and child.process.returncode is not None:
                        raise AssertionError(f"it ended: {child!r}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s} s: {self._children}") from None
        return time.monotonic()

    async def quoting(self, child: Child, orders: int = 2) -> None:
        """Wait until it has so many orders resting, on both sides."""

        def rests() -> bool:
            sides = {order.wanted.side for order in self.own()}
            return len(self.own()) >= orders and len(sides) == 2

        await self.until(rests, child)

    def own(self) -> list[AccountOrder]:
        """What any run of this program has resting."""
        return [order for order in self.venue.account.open_orders() if is_own(order.client_id)]

    def lots(self) -> int:
        """The position by the venue's record of trades."""
        return sum(trade.side * trade.lots for trade in self.venue.account.trades)

    def runs(self, runs: str = "runs") -> list[Path]:
        """Folders of runs, oldest first."""
        return sorted((self.folder / runs).iterdir())

    async def close(self) -> None:
        """End every child."""
        for child in self._children:
            if child.process.returncode is None:
                child.process.kill()
            await child.process.wait()


def journal(run: Path) -> Sequence[object]:
    """A run's events and decisions, in order."""
    found: list[object] = []
    for record in read_log(Run(run).log):
        if isinstance(record, Learned):
            found.append(record.event)
        elif isinstance(record, Decided):
            found += record.decisions
    return found


def places(records: Sequence[object]) -> list[Place]:
    return [one for one in records if isinstance(one, Place)]


@asynccontextmanager
async def yard(folder: Path, venue: str = "binance-usdm") -> AsyncIterator[Yard]:
    """A quiet venue for child processes; none of them outlives it."""
    async with quiet_venue(loaded_for(venue, folder)) as place:
        found = Yard(place, folder)
        try:
            yield found
        finally:
            await found.close()


def innermost(found: Yard, side: Side) -> AccountOrder:
    """The best order of ours on a side."""
    return found.venue.resting(side)[0]


Scenario = Callable[[Path], Awaitable[None]]


def side_by_side(
    request: pytest.FixtureRequest, scenarios: Mapping[str, Scenario], folder: Path
) -> dict[str, Exception | None]:
    """What the scenarios raised that this session's tests of a module ask for by `name`.

    They run in one loop, each in a folder of its own: every one of them mostly waits.
    """
    asked = {
        item.callspec.params.get("name")
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
    }
    wanted = {name: scenario for name, scenario in scenarios.items() if name in asked}

    async def one(name: str, scenario: Scenario) -> Exception | None:
        place = folder / name.replace(" ", "-")
        place.mkdir()
        try:
            await scenario(place)
        except (AssertionError, OSError, LookupError, ValueError, RuntimeError) as error:
            return error
        return None

    async def all_of_them() -> list[Exception | None]:
        return await asyncio.gather(*(one(name, job) for name, job in wanted.items()))

    return dict(zip(wanted, asyncio.run(all_of_them()), strict=True))
