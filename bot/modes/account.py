"""The account of a run that sends real orders: whose it is, where it lies, and that it is ours.

One process at a time has it (a lease), and its past is read from the journals of earlier runs.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from bot.modes.preflight import PreflightRefused
from bot.modes.previous import previous_run
from bot.modes.secrets import credentials
from bot.modes.settings import Loaded
from bot.shell.heartbeat import bot_path, watchdog_path
from bot.shell.lease import Lease, LeaseError, LeaseTaken, state_folder, state_name
from bot.shell.peer import Access, Credentials
from bot.shell.takeover import Previous
from bot.venues.binance.endpoints import account_hosts


def access_of(loaded: Loaded, keys: Credentials) -> Access:
    """Where an account's requests may go, and with which key."""
    settings = loaded.settings
    venue, world, base = settings.venue, settings.feed.world, settings.feed.base_url
    return Access(venue, world, account_hosts(venue, world, base=base), keys, base)


def account_name(loaded: Loaded, keys: Credentials) -> str:
    """The name of an account's files; a simulated exchange has accounts of its own."""
    settings = loaded.settings
    return state_name(settings.venue, settings.symbol, keys.api_key + settings.feed.base_url)


class Account:
    """An account that this process holds until `release`, a context manager.

    `name` tells it from every other one, and nothing of its key. Raises PreflightRefused when
    another process has it.
    """

    __slots__ = ("_lease", "_loaded", "access", "heartbeat", "name", "watchdog")

    def __init__(self, loaded: Loaded, keys: Credentials, env: Mapping[str, str]) -> None:
        self._loaded = loaded
        self.access = access_of(loaded, keys)
        self.name = account_name(loaded, keys)
        folder = state_folder(env)
        self.heartbeat: Path = bot_path(folder, self.name)
        self.watchdog: Path = watchdog_path(folder, self.name)
        try:
            self._lease = Lease(folder, self.name)
        except (LeaseTaken, LeaseError) as refusal:
            raise PreflightRefused(str(refusal)) from None

    def previous(self, runs: Path, now: int, skipped: Callable[[str], None]) -> Previous | None:
        """What the journals of this account's earlier runs say; None without a past.

        `skipped` is told, in a sentence, of each that cannot be used.
        """
        return previous_run(runs, self._loaded, self.name, now, skipped)

    def release(self) -> None:
        """Let another process have it."""
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Account {self.name}>"


def open_account(loaded: Loaded, env: Mapping[str, str] = os.environ) -> Account | None:
    """The account of a configuration; None where orders stay on paper.

    Raises PreflightRefused.
    """
    if loaded.settings.mode == "paper":
        return None
    return Account(loaded, credentials(loaded, env), env)
