"""`mmbot watchdog`: beside the bot, in a process of its own, with a connection of its own.

It shares two small files with the bot (`bot.shell.heartbeat`) and nothing else: no kernels, no
book, no journal, so that what breaks the one does not break the other.
"""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from bot.domain.units import NS_PER_S
from bot.modes.account import access_of, account_name
from bot.modes.entry import worlds
from bot.modes.preflight import PreflightRefused
from bot.modes.secrets import credentials
from bot.modes.settings import ConfigError, Loaded
from bot.shell.clock import Clock
from bot.shell.heartbeat import Heartbeat, Pulse, State, bot_path, watchdog_path
from bot.shell.lease import Lease, LeaseError, LeaseTaken, state_folder
from bot.shell.loop import run as run_loop
from bot.shell.peer import Credentials
from bot.shell.signals import stop_signals
from bot.shell.supervisor import Supervisor
from bot.shell.venuetime import VenueTime
from bot.shell.watchdog import CALL_S, Watchdog
from bot.shell.wire import CallFailed, Wire
from bot.venues.binance.ids import is_own, new_prefix
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call

EXIT_DONE: Final = 0
EXIT_BROKEN: Final = 1
EXIT_INTERRUPTED: Final = 130


class Watch:
    """One watchdog from its start to its exit code; `result` tells what it did.

    `folder` and `name` are where heartbeats lie. Raises OSError when it cannot write its own.
    """

    def __init__(self, loaded: Loaded, keys: Credentials, folder: Path, name: str) -> None:
        settings = loaded.settings
        self.clock = Clock()
        self.started_at = self.clock.now()
        self.reason = ""
        self.code = EXIT_DONE
        # It places nothing: the prefix names its heartbeat, and no codec is without one.
        prefix = new_prefix(self.clock.run_id())
        self._codec = order_codec(loaded.instrument, prefix)
        self._wire = Wire(
            access_of(loaded, keys),
            self._codec,
            self.clock,
            timeout_ms=round(CALL_S * 1_000),
        )
        self._heart = Heartbeat(
            watchdog_path(folder, name),
            self.clock,
            epoch=prefix,
            venue=settings.venue,
            symbol=settings.symbol,
            state=State.BLIND,
        )
        self.watchdog = Watchdog(
            self._ask,
            self._codec,
            is_own,
            Pulse(bot_path(folder, name)),
            self._heart,
            self.clock,
            validity_ms=self._codec.capabilities.recv_window_ms,
            exclusive=loaded.settings.account.exclusive,
        )
        # Its doubts are for those who place orders; a cancel is worth a try at any time.
        self._time = VenueTime(
            self._wire.call, self._codec, lambda doubt: None, self.clock, self._wire.set_offset
        )
        self._log = structlog.get_logger()
        self._supervisor = Supervisor(self._broke)
        self._started = {"heartbeat": str(bot_path(folder, name)), "symbol": settings.symbol}

    async def go(self, seconds: float | None = None) -> int:
        """Watch until told to stop, or for so many seconds; returns the exit code."""
        with stop_signals(self._signalled):
            self._log.info("watchdog_started", **self._started)
            self._supervisor.start(self._time.run())
            if seconds is not None:
                self._supervisor.start(self._stop_after(seconds))
            try:
                finished = await self._supervisor.attempt(self.watchdog.run())
            finally:
                await self._supervisor.close()
                await self._wire.close()
                self._heart.close()
        if not finished:
            self._log.error("orders_unconfirmed", watchdog=repr(self.watchdog))
            self.code = EXIT_BROKEN
        self._log.info("watchdog_ended", reason=self.reason, code=self.code)
        return self.code

    def stop(self, reason: str, code: int = EXIT_DONE) -> None:
        """End in order; the first reason stands."""
        if not self.reason:
            self.reason, self.code = reason, code
        self.watchdog.stop()

    def _signalled(self, name: signal.Signals) -> None:
        self.stop(name.name, EXIT_INTERRUPTED if name is signal.SIGINT else EXIT_DONE)

    def _broke(self, failure: Exception) -> None:
        self._log.error("failed", exc_info=failure)
        self.stop("internal error", EXIT_BROKEN)

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.stop(f"ran for {seconds:g} s")

    async def _ask(self, call: Call) -> Any:
        try:
            return await self._wire.call(call)
        except CallFailed as failure:
            if failure.refusal.clock:
                self._time.nudge()
            raise

    def result(self) -> dict[str, Any]:
        """What `--json` prints; programs rely on its keys."""
        tally = self.watchdog.tally
        return {
            "looks": tally.looks,
            "rescues": tally.rescues,
            "rescues_confirmed": tally.rescues_done,
            "orders_cancelled": tally.cancelled,
            "failed_calls": tally.failures,
            "seconds": round((self.clock.now() - self.started_at) / NS_PER_S, 3),
            "reason": self.reason,
        }


def watchdog(
    loaded: Loaded, seconds: float | None, env: Mapping[str, str]
) -> tuple[int, dict[str, Any]]:
    """One watchdog from start to end on an event loop of its own: (exit code, result).

    Raises ConfigError for a configuration that leaves no orders at a venue, PreflightRefused
    without usable keys, and while another watchdog watches the same bot.
    """
    settings = loaded.settings
    if not worlds(settings.mode, settings.venue):
        raise ConfigError(
            f"mode {settings.mode} sends no orders to {settings.venue}: there is nothing to watch"
        )
    keys = credentials(loaded, env)
    folder = state_folder(env)
    name = account_name(loaded, keys)

    async def main() -> tuple[int, dict[str, Any]]:
        watch = Watch(loaded, keys, folder, name)
        code = await watch.go(seconds)
        return code, watch.result()

    try:
        with Lease(folder, f"{name}-watchdog", "watchdog"):
            return run_loop(main())
    except (LeaseTaken, LeaseError) as refused:
        raise PreflightRefused(str(refused)) from refused
