"""`mmbot check` against the served exchange: one bench a venue, with everything to vary."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS
from bot.modes import checkcmd
from bot.modes.account import account_name
from bot.modes.preflight import Examination, Finding, Level
from bot.modes.serve import API_KEY, API_SECRET, new_server
from bot.modes.settings import Loaded, load
from bot.shell.clock import Clock
from bot.shell.heartbeat import Heartbeat, State, watchdog_path
from bot.shell.peer import Credentials
from bot.shell.venueserver import VenueServer
from bot.venues.binance.reply import Reply, Request

ROOT = Path(__file__).resolve().parents[2]
# What a check may ask for, beside the sockets, whose handshakes are GETs too.
NO_KEYS = ["account.api_key_file=null", "account.secret_file=null"]


class Off(Clock):
    """A machine's clock that is `ms` ahead."""

    def __init__(self, ms: int) -> None:
        super().__init__()
        self._epoch += ms * NS_PER_MS


class Bench:
    """A served venue, a config that points at it, and every request that came in."""

    def __init__(self, server: VenueServer, folder: Path, venue: str) -> None:
        self.server = server
        self.folder = folder
        self.config = ROOT / "config" / f"testnet-{venue}.yaml"
        self.clock = Clock()
        self.env = {
            "MMBOT_API_KEY": API_KEY,
            "MMBOT_SECRET": API_SECRET,
            "MMBOT_STATE": str(folder / "state"),
        }
        self.sets = [
            *NO_KEYS,
            f"feed.base_url=http://127.0.0.1:{server.port}",
            f"run.folder={folder / 'runs'}",
        ]
        self.asked: list[tuple[str, str]] = []
        answer = server.answer

        def heard(request: Request, arrived: int) -> Reply:
            self.asked.append((request.method, request.path))
            return answer(request, arrived)

        server.answer = heard  # type: ignore[method-assign]

    @property
    def seat(self) -> Any:
        return self.server.desk.seats[0]

    def loaded(self, *sets: str) -> Loaded:
        return load(self.config, env=self.env, sets=[*self.sets, *sets])

    @property
    def name(self) -> str:
        return account_name(self.loaded(), Credentials(API_KEY, API_SECRET))

    async def check(self, *sets: str) -> Examination:
        """What a check finds; it may only have looked, and shown neither key nor secret."""
        loaded = self.loaded(*sets)
        found = await asyncio.to_thread(checkcmd.check, loaded, self.env, self.clock)
        assert {method for method, _ in self.asked} <= {"GET"}
        assert not self.seat.account.orders()
        shown = checkcmd.as_text(found) + checkcmd.as_json(loaded, found)
        assert self.env["MMBOT_API_KEY"] not in shown
        assert self.env["MMBOT_SECRET"] not in shown
        assert "[redacted]" not in shown
        return found

    @asynccontextmanager
    async def watched(self, state: State = State.WATCHING) -> AsyncIterator[None]:
        """With the signs of life of a watchdog."""
        path = watchdog_path(Path(self.env["MMBOT_STATE"]), self.name)
        venue = self.loaded().settings.venue
        heart = Heartbeat(
            path, self.clock, epoch="w", venue=venue, symbol="BTCUSDT", state=State.BLIND
        )

        async def beat() -> None:
            turns = 0
            while True:
                turns += 1
                heart.beat(turns, state)
                await asyncio.sleep(0.11)

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            heart.close()


@asynccontextmanager
async def benched(
    folder: Path,
    venue: str = "binance-usdm",
    *,
    deposits: dict[str, Decimal] | None = None,
    **changed: Any,
) -> AsyncIterator[Bench]:
    """A bench on a served market; `changed` are fields of the instrument that it lists."""
    listed = load(None, env={}, sets=[f"venue={venue}", "symbol=BTCUSDT"]).instrument
    fields = {name: getattr(listed, name) for name in Instrument.__struct_fields__} | changed
    async with new_server(Instrument(**fields), Clock(), deposits=deposits) as server:
        yield Bench(server, folder, venue)


def named(found: Examination, name: str) -> Finding:
    """The only finding of a name."""
    (one,) = (one for one in found.findings if one.name == name)
    return one


def failed(found: Examination) -> str:
    """The sentence of the only thing that failed."""
    (one,) = found.failures
    assert found.code == (5 if found.unreachable else 3)
    return one.text


def levels(found: Examination) -> dict[str, str]:
    """What is not right."""
    return {one.name: one.level.value for one in found.findings if one.level is not Level.OK}
