"""What a run needs of this machine: room on the disk, its lease, and on spot its watchdog."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

from bot.domain.units import NS_PER_S
from bot.modes.preflight import Finding, Level
from bot.modes.settings import Loaded
from bot.shell.clock import Clock
from bot.shell.deadman import WatchdogRequired
from bot.shell.heartbeat import watchdog_path
from bot.shell.lease import Lease, LeaseError, LeaseTaken

GIB: Final = 1 << 30
ROOM_WARN: Final = 5 * GIB
ROOM_MIN: Final = 1 * GIB
LOOK_S: Final = 0.1
LOOKS_NS: Final = NS_PER_S + NS_PER_S // 2  # a watchdog beats every 250 ms


def disk(folder: Path) -> Finding:
    """Room for journals where runs are kept, and whether they may be written there."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"run.folder ({folder}) cannot be made or written: choose another one"
        return Finding("disk", Level.FAIL, text)
    free = shutil.disk_usage(there).free
    text = f"{free / GIB:.1f} GiB free for run.folder"
    if free < ROOM_MIN:
        least = ROOM_MIN / GIB
        return Finding("disk", Level.FAIL, f"{text}, at least {least:.0f} GiB is needed: make room")
    return Finding("disk", Level.WARN if free < ROOM_WARN else Level.OK, text)


def lease(folder: Path, name: str) -> Finding:
    """Whether another bot has this account and symbol; the lease is only held for a moment."""
    try:
        Lease(folder, name).release()
    except LeaseTaken as taken:
        return Finding("lease", Level.FAIL, str(taken))
    except LeaseError as error:
        return Finding("lease", Level.FAIL, f"{error}: set MMBOT_STATE to a folder of your own")
    return Finding("lease", Level.OK, f"no other bot has this account and symbol ({folder})")


async def watchdog(loaded: Loaded, folder: Path, name: str, clock: Clock) -> Finding:
    """Whether this bot's watchdog shows signs of life within 1.5 s."""
    settings = loaded.settings
    guard = WatchdogRequired(
        watchdog_path(folder, name),
        lambda event: None,
        clock,
        venue=settings.venue,
        symbol=settings.symbol,
    )
    await guard.arm()
    until = clock.now() + LOOKS_NS
    while not guard.armed and clock.now() < until:
        await asyncio.sleep(LOOK_S)
        await guard.refresh()
    fault = guard.fault(clock.now())
    if not fault:
        return Finding("dead man", Level.OK, "the watchdog runs and reaches the venue")
    why = f"{settings.venue} has no dead-man's switch, so a watchdog must run beside the bot"
    return Finding("dead man", Level.FAIL, f"{why}: {fault}")
