"""A configuration that changes while the bot runs: tighter limits hold at once, nothing else.

Everything that is looser or of another kind waits for the next start, and is named in the
log. The directory is watched and not the file: where a ConfigMap is mounted, a link of the
directory is swapped and the file itself never changes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from msgspec.structs import replace
from watchfiles import awatch

from bot.domain.events import LimitsTightened
from bot.domain.params import RiskParams
from bot.modes.settings import ConfigError, Loaded
from bot.shell.clock import Clock
from bot.shell.inbox import Inbox

DEBOUNCE_MS: Final = 200

# Limits of which a lower value is the tighter one, and their field of RiskParams.
LOWER_IS_TIGHTER: Final = {
    "loss_budget": "loss_budget",
    "max_position_qty": "max_position_lots",
    "max_order_qty": "max_order_lots",
    "collar_bps": "collar_bps",
    "loss_1m_fraction": "loss_1m_fraction",
    "loss_5m_fraction": "loss_5m_fraction",
    "loss_1h_fraction": "loss_1h_fraction",
    "loss_day_fraction": "loss_day_fraction",
    "inventory_one_sided": "inventory_one_sided",
    "inventory_halt": "inventory_halt",
    "silence_ms": "silence_ms",
    "silence_all_ms": "silence_all_ms",
    "age_ms": "age_ms",
}


class Change(NamedTuple):
    """What a changed configuration means for a run: limits in force, and keys by kind."""

    risk: RiskParams
    tightened: dict[str, tuple[Any, Any]]
    waiting: dict[str, tuple[Any, Any]]  # for the next start


def change(running: Loaded, in_force: RiskParams, new: Loaded) -> Change:
    """Compare a new configuration with the one that the run was started with."""
    risk = in_force
    tightened: dict[str, tuple[Any, Any]] = {}
    waiting: dict[str, tuple[Any, Any]] = {}
    before = running.settings.model_dump()
    after = new.settings.model_dump()
    for section, values in after.items():
        if not isinstance(values, dict):
            if values != before[section]:
                waiting[section] = (before[section], values)
            continue
        for key, value in values.items():
            field = LOWER_IS_TIGHTER.get(key) if section == "risk" else None
            if field is not None:
                old, wanted = getattr(risk, field), getattr(new.params.risk, field)
                if wanted < old:
                    risk = replace(risk, **{field: wanted})
                    tightened[f"risk.{key}"] = (old, wanted)
                elif wanted > old:
                    waiting[f"risk.{key}"] = (old, wanted)
            elif value != before[section][key]:
                waiting[f"{section}.{key}"] = (before[section][key], value)
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
        self._log = structlog.get_logger()

    async def watch(self) -> None:
        """Look at every change of the file's directory until cancelled."""
        async for _ in awatch(self._path.absolute().parent, step=50, debounce=DEBOUNCE_MS):
            self.look()

    def look(self) -> None:
        """Read the file once more and take from it what may be taken."""
        try:
            new = self._reread()
        except ConfigError as mistake:
            self._log.error("config_refused", mistake=str(mistake), kept="the one in force")
            return
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
            waiting_for_restart={key: list(map(str, pair)) for key, pair in found.waiting.items()},
        )

    def __repr__(self) -> str:
        return f"<Reload {self._path}>"
