"""The start of real orders: the account is examined, and the venue's own terms hold.

What an examination fails is told in one sentence, and nothing is placed.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bot.modes.account import Account
from bot.modes.examine import examine
from bot.modes.preflight import Finding, Level
from bot.modes.settings import Loaded
from bot.modes.terms import with_terms
from bot.shell.clock import Clock
from bot.shell.lease import state_folder
from bot.shell.wire import Wire
from bot.venues.binance.ordercodec import order_codec

PREFIX: Final = "mm000000"  # of no order: an examination places none


async def on_venue_terms(
    loaded: Loaded, account: Account, clock: Clock, warn: Callable[[Finding], None]
) -> Loaded:
    """The configuration with the venue's filters and fees; `warn` gets what one should know.

    Raises PreflightRefused and VenueUnreachable, and ConfigError for sizes that do not fit.
    """
    earlier = account.previous(Path(loaded.settings.run.folder), clock.now(), lambda why: None)
    timeout_ms = loaded.settings.execution.request_timeout_ms
    codec = order_codec(loaded.instrument, PREFIX)
    wire = Wire(account.access, codec, clock, timeout_ms=timeout_ms)
    try:
        found = await examine(
            loaded,
            wire,
            lambda instrument: order_codec(instrument, PREFIX),
            clock,
            state=state_folder(os.environ),
            name=account.name,
            holding_lease=True,
            neutral=None if earlier is None else earlier.neutral,
        )
    finally:
        await wire.close()
    for one in found.findings:
        if one.level is Level.WARN:
            warn(one)
    return with_terms(loaded, found)
