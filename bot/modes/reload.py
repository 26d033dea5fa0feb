"""A configuration that changes while the bot runs: tighter limits hold at once, nothing else.

Everything that is looser or of another kind waits for the next start, and is named in the
log. The directory is watched and not the file: where a ConfigMap is mounted, a link of the
directory is swapped and the file itself never changes.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from msgspec.structs import replace
from watchfiles import awatch

from bot.domain.events import LimitsTightened
from bot.domain.params import RiskParams
from bot.modes.relations import value_of
from bot.modes.settings import LEAVES, ConfigError, Loaded
from bot.shell.clock import Clock
from bot.shell.inbox import Inbox

DEBOUNCE_MS: Final = 200

# Limits of which a lower value is the tighter one, and their field of RiskParams. Each is read
# anew at every decision. Where one must stay below another, both are here: the least values
# of configurations that hold make one that holds.
LOWER_IS_TIGHTER: Final = {
    "loss_budget": "loss_budget",
    "max_position_qty": "max_position_lots",
    "max_order_qty": "max_order_lots",
    "max_open_orders_per_side": "max_open_orders_per_side",
    "collar_bps": "collar_bps",
    "loss_1m_fraction": "loss_1m_fraction",
    "loss_5m_fraction": "loss_5m_fraction",
    "loss_1h_fraction": "loss_1h_fraction",
    "loss_day_fraction": "loss_day_fraction",
    "fill_speed_fraction_1s": "fill_speed_fraction_1s",
    "fill_speed_fraction_5s": "fill_speed_fraction_5s",
    "inventory_one_sided": "inventory_one_sided",
    "inventory_rearm": "inventory_rearm",
    "inventory_halt": "inventory_halt",
    "silence_ms": "silence_ms",
    "silence_all_ms": "silence_all_ms",
    "age_ms": "age_ms",
}


class Change(NamedTuple):
    """What a changed configuration means for a run: limits in force, and keys by kind."""

    risk: RiskParams
    tightened: dict[str, tuple[str, str]]
    waiting: dict[str, tuple[str, str]]  # for the next start


def change(running: Loaded, in_force: RiskParams, new: Loaded) -> Change:
    """Compare a new configuration with the limits in force and the one the run began with.

    Nothing is tightened by a configuration of another instrument: its lots are others.
    """
    risk = in_force
    tightened: dict[str, tuple[str, str]] = {}
    waiting: dict[str, tuple[str, str]] = {}
    same = new.instrument == running.instrument
    for key in LEAVES:
        field = LOWER_IS_TIGHTER.get(key.removeprefix("risk.")) if same else None
        if field is None:
            before, after = value_of(running.settings, key), value_of(new.settings, key)
            if before != after:
                waiting[key] = (str(before), str(after))
            continue
        old, wanted = getattr(in_force, field), getattr(new.params.risk, field)
        unit = running.instrument.lot if field.endswith("_lots") else 1
        if wanted < old:
            risk = replace(risk, **{field: wanted})
            tightened[key] = (str(old * unit), str(wanted * unit))
        elif wanted > old:
            waiting[key] = (str(old * unit), str(wanted * unit))
    return Change(risk, tightened, waiting)


class Reload:
    """Watches a configuration file and puts tighter limits into the inbox.

    `reread` loads the file as the start did; what it refuses is logged, and the old
    configuration stays.
    """

    def __init__(
        self,
        path: Path,
        running: Loaded,
        inbox: Inbox,
        clock: Clock,
        reread: Callable[[], Loaded],
    ) -> None:
        self._path = path
        self._running = running
        self._in_force = running.params.risk
        self._inbox = inbox
        self._clock = clock
        self._reread = reread
        self._digest = running.digest
        self._refused = ""  # what was said last, so as to say it once
        self._log = structlog.get_logger()

    async def watch(self) -> None:
        """Look at once, and at every change of the file's directory until cancelled."""
        await self.look()  # it may have changed since the start read it
        folder = self._path.absolute().parent
        async for _ in awatch(folder, debounce=DEBOUNCE_MS, recursive=False):
            await self.look()

    async def look(self) -> None:
        """Read the file once more and take from it what may be taken."""
        try:
            # Some 20 ms of parsing: not on the event loop.
            new = await asyncio.to_thread(self._reread)
        except ConfigError as mistake:
            if str(mistake) != self._refused:
                self._log.error("config_refused", mistake=str(mistake), kept="the one in force")
            self._refused = str(mistake)
            return
        self._refused = ""
        if new.digest == self._digest:
            return
        self._digest = new.digest
        found = change(self._running, self._in_force, new)
        if found.tightened:
            self._in_force = found.risk
            self._inbox.put_event(LimitsTightened(self._clock.now(), found.risk))
        self._log.warning(
            "config_changed",
            tightened={key: list(pair) for key, pair in found.tightened.items()},
            waiting_for_restart={key: list(pair) for key, pair in found.waiting.items()},
        )

    def __repr__(self) -> str:
        return f"<Reload {self._path}>"
