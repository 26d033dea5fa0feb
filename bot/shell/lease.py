"""One bot per venue, symbol and API key: a lock that a crash frees, and the folder it lies in.

Two bots on one account would cancel each other's orders and count each other's fills. The lock
is the kernel's (`flock`), so it is gone the moment its holder is, however that ended. The file
stays: to unlink it would let a third one lock what no one else can see.
"""

import fcntl
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

STATE_VARIABLE: Final = "MMBOT_STATE"
KEY_DIGITS: Final = 12  # of the key's hash: enough to tell one person's keys apart


class LeaseTaken(RuntimeError):
    """Another process holds the lease; the text is one sentence for a user."""


class LeaseError(RuntimeError):
    """The lease's file cannot be made; the text is one sentence for a user."""


def state_folder(env: Mapping[str, str]) -> Path:
    """Where leases and heartbeats lie: one folder per user, whatever folder a run starts in.

    `MMBOT_STATE`, else `$XDG_STATE_HOME/mmbot`, else `~/.local/state/mmbot`; by the XDG base
    directory specification a relative XDG_STATE_HOME is ignored.
    """
    if named := env.get(STATE_VARIABLE):
        return Path(named)
    home = env.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path("~/.local/state").expanduser()
    return base / "mmbot"


def state_name(venue: str, symbol: str, api_key: str) -> str:
    """The name of one bot's files in the state folder; tells nothing of the key."""
    digest = hashlib.sha256(f"mmbot lease {api_key}".encode()).hexdigest()
    return f"{venue}-{symbol}-{digest[:KEY_DIGITS]}"


class Lease:
    """Holds `folder/name.lease` from its creation to `release`, or to the end of the process.

    `what` says who wants it, for the sentence of a refusal. Raises LeaseTaken, and LeaseError
    for a folder that cannot be written. A forked child shares the lock; one that starts
    another program does not, for the file is closed there.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, folder: Path, name: str, what: str = "bot") -> None:
        self.path = folder / f"{name}.lease"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LeaseError(f"{self.path} cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            whose = f"process {holder}" if holder else "another process"
            raise LeaseTaken(
                f"{whose} already is the {what} for this venue, symbol and API key"
                f" ({self.path}): stop it first"
            ) from None
        except OSError as error:
            os.close(self._fd)
            raise LeaseError(f"{self.path} cannot be locked: {error.strerror}") from error

    def release(self) -> None:
        """Let others have it; more than once does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease {self.path.name} {'held' if self._fd >= 0 else 'released'}>"
