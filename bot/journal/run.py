"""A run's folder: its name, its manifest and where its journal lies."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from bot.domain.units import NS_PER_S
from bot.journal.capture import JournalError

SAME_NAME_MAX: Final = 1_000

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def run_name(now_ns: int, venue: str, symbol: str) -> str:
    """Name a run that starts at `now_ns`, like `20240808T235413Z-binance-usdm-BTCUSDT`.

    What is not a letter, a digit, a dot, a dash or an underscore becomes an underscore.
    """
    start = datetime.fromtimestamp(now_ns // NS_PER_S, tz=UTC)
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{start:%Y%m%dT%H%M%SZ}-{venue}-{symbol}")


class Run(msgspec.Struct, frozen=True):
    """The folder of one run; `path` exists and holds `journal/`."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str) -> Self:
        """Make the folder `root/name` with its `journal/`; `name-2`, `name-3`, … when taken.

        Raises `JournalError` when `name` is no plain folder name, when it cannot be made
        or when `SAME_NAME_MAX` runs have it already.
        """
        if not _PLAIN.fullmatch(name):
            raise JournalError(f"{name!r} cannot name a run: use letters, digits and . _ -")
        try:
            root.mkdir(parents=True, exist_ok=True)
            for number in range(1, SAME_NAME_MAX + 1):
                path = root / (name if number == 1 else f"{name}-{number}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                (path / "journal").mkdir()
                return cls(path)
        except OSError as error:
            raise JournalError(f"{root / name} cannot be created: {error.strerror}") from error
        raise JournalError(f"{root} already holds {SAME_NAME_MAX} runs named {name}")

    @property
    def journal(self) -> Path:
        """The folder of the market segments and of the log."""
        return self.path / "journal"

    @property
    def log(self) -> Path:
        """The log of own events and decisions."""
        return self.journal / "decisions.log"

    @property
    def database(self) -> Path:
        """What is derived from the journal, for eyes."""
        return self.path / "run.db"

    @property
    def manifest(self) -> Path:
        """The file that says what the run was."""
        return self.path / "manifest.json"

    def write_manifest(self, manifest: Mapping[str, object]) -> None:
        """Replace `manifest.json` at once, keys sorted; a crash leaves the old or the new one.

        Values are what msgspec encodes (plain data, Structs, Decimal as text). Raises
        `JournalError` when it cannot be written.
        """
        plain = msgspec.json.encode(dict(manifest), order="sorted")
        text = msgspec.json.format(plain, indent=2) + b"\n"
        draft = self.path / ".manifest.json.new"
        try:
            with draft.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.manifest)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise JournalError(f"{self.manifest} cannot be written: {error.strerror}") from error

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest as plain data; `JournalError` when missing or unreadable."""
        try:
            return msgspec.json.decode(self.manifest.read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise JournalError(f"{self.manifest} cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise JournalError(f"{self.manifest} is damaged: {error}") from error


def open_run(path: Path) -> Run:
    """Return the run in `path`; `JournalError` when it is not a run's folder."""
    run = Run(path)
    if not path.exists():
        raise JournalError(f"{path} does not exist")
    if not run.manifest.is_file() or not run.journal.is_dir():
        raise JournalError(f"{path} is not a run's folder: it lacks manifest.json or journal/")
    run.read_manifest()
    return run
