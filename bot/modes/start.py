"""The start of real orders: the account is examined, and the venue's own terms hold.

What an examination fails is told in one sentence, and nothing is placed.
"""

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final

from bot.modes.account import Account
from bot.modes.examine import examine
from bot.modes.preflight import Examination, Finding, Level
from bot.modes.settings import Loaded
from bot.modes.terms import with_terms
from bot.shell.clock import Clock
from bot.shell.lease import state_folder
from bot.shell.peer import Access
from bot.shell.signals import ended_by_signals
from bot.shell.wire import Wire
from bot.venues.binance.ordercodec import order_codec

PREFIX: Final = "mm000000"  # of no order: an examination places none, but no codec is without one


async def on_venue_terms(
    loaded: Loaded, account: Account, clock: Clock, warn: Callable[[Finding], None]
) -> Loaded:
    """The configuration with the venue's filters and fees; `warn` gets what one should know.

    Raises PreflightRefused and VenueUnreachable, and ConfigError for sizes that do not fit.
    """
    earlier = account.previous(Path(loaded.settings.run.folder), clock.now(), lambda why: None)
    with ended_by_signals():
        found = await examined(
            loaded,
            account.access,
            clock,
            state=state_folder(os.environ),
            name=account.name,
            holding_lease=True,
            neutral=None if earlier is None else earlier.neutral,
        )
    for one in found.findings:
        if one.level is Level.WARN:
            warn(one)
    return with_terms(loaded, found)


async def examined(
    loaded: Loaded,
    access: Access,
    clock: Clock,
    *,
    state: Path,
    name: str,
    holding_lease: bool = False,
    neutral: Decimal | None = None,
) -> Examination:
    """What `examine` finds, over a line of its own."""
    timeout_ms = loaded.settings.execution.request_timeout_ms
    wire = Wire(access, order_codec(loaded.instrument, PREFIX), clock, timeout_ms=timeout_ms)
    try:
        return await examine(
            loaded,
            wire,
            lambda instrument: order_codec(instrument, PREFIX),
            clock,
            state=state,
            name=name,
            holding_lease=holding_lease,
            neutral=neutral,
        )
    finally:
        await wire.close()
