"""What earlier runs of the same kind knew: their position, executions and open orders.

Only the journals are read, oldest first: executions add up, an adopted position stands for all
before it. A journal that breaks off or is damaged counts up to there, as a crash does. Runs of
another mode, venue, symbol or account say nothing about this one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from bot.core.fillkeys import REMEMBERED_NS, FillKey
from bot.domain.decisions import Decision, Place
from bot.domain.events import (
    Amended,
    Filled,
    FillRecovered,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    PositionAdopted,
)
from bot.domain.instrument import Instrument
from bot.journal.capture import JournalError
from bot.journal.log import Decided, Header, Learned, Record, read_log
from bot.journal.run import Run, run_name
from bot.modes.settings import Loaded
from bot.shell.takeover import Previous
from bot.venues.binance.ids import is_own

ACCOUNT: Final = "account"  # in a run's manifest: its name, which tells nothing of its key
NEUTRAL: Final = "neutral_qty"  # the balance that counted as no position, exact text

Skipped = Callable[[str], None]


@dataclass(slots=True)
class _Story:
    """One run, as its journal tells it."""

    name: str
    started_at: int
    instrument: Instrument
    neutral: Decimal | None
    told: list[Filled | FillRecovered | PositionAdopted] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)  # orders without an end -> lots left
    last_at: int = 0  # 0: the journal is a header and nothing else
    adopted: bool = False  # the run got as far as to have a position

    def take(self, record: Record) -> None:
        """Learn one record."""
        if isinstance(record, Learned):
            self.last_at = max(self.last_at, record.event.at)
            self._learn(record.event)
        elif isinstance(record, Decided):
            self.last_at = max(self.last_at, record.now)
            if record.decisions:
                self._decided(record.decisions)

    def _decided(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Place):
                self.open[decision.order_id] = decision.lots

    def _learn(self, event: object) -> None:
        match event:
            case PositionAdopted():
                self.adopted = True
                self.told.append(event)
            case Filled() | FillRecovered():
                self.told.append(event)
                left = self.open.get(event.order_id)
                if left is not None and left > event.lots:
                    self.open[event.order_id] = left - event.lots
                elif left is not None:
                    del self.open[event.order_id]
            case Amended() if event.order_id in self.open:
                self.open[event.order_id] = max(1, event.lots - event.cumulative_lots)
            case OrderCancelled() | OrderExpired() | OrderRejected():
                self.open.pop(event.order_id, None)
            case _:
                pass


def previous_run(
    runs: Path, loaded: Loaded, account: str, now: int, skipped: Skipped = lambda why: None
) -> Previous | None:
    """Read what earlier runs in the folder `runs` knew at `now`, ns; None without any.

    Only runs of the same `account` count, by the name in their manifests. `skipped` is told, in
    a sentence, of each folder that cannot be used, or not wholly.
    """
    stories: list[_Story] = []
    for path in reversed(_folders(runs, loaded.instrument)):
        if any(story.adopted for story in stories) and _is_old(path, now):
            break  # neither its position nor its executions are needed
        story = _read(path, loaded, account, skipped)
        if story is not None and story.last_at:
            stories.append(story)
    if not stories:
        return None
    return _add_up(sorted(stories, key=lambda story: story.started_at), now)


def remember_account(run: Run, name: str, neutral: Decimal | None) -> None:
    """Write into a run's manifest what the next run has to know and no journal holds.

    `neutral` is None for a derivative. Raises JournalError when it cannot be written.
    """
    more: dict[str, object] = {ACCOUNT: name}
    if neutral is not None:
        more[NEUTRAL] = str(neutral)
    run.write_manifest({**run.read_manifest(), **more})


def _folders(runs: Path, instrument: Instrument) -> list[Path]:
    """The folders that are named like runs of this symbol, oldest first."""
    tail = run_name(0, instrument.venue, instrument.symbol).partition("-")[2]
    pattern = re.compile(rf"(\d{{8}}T\d{{6}}Z)-{re.escape(tail)}(?:-(\d+))?")
    found = []
    for path in runs.iterdir() if runs.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is not None and path.is_dir():
            found.append(((match[1], int(match[2] or 1)), path))
    return [path for _, path in sorted(found)]


def _is_old(path: Path, now: int) -> bool:
    """Whether nothing was written to the run's log for so long that its keys have expired."""
    try:
        return Run(path).log.stat().st_mtime_ns < now - REMEMBERED_NS
    except OSError:
        return False


def _read(path: Path, loaded: Loaded, account: str, skipped: Skipped) -> _Story | None:
    """One run, up to where its journal can be read; None where it says nothing about ours."""
    run = Run(path)
    records = _records(run.log, lambda why: skipped(f"{path.name}: {why}"))
    header = next(records, None)
    if not isinstance(header, Header):
        skipped(f"{path.name}: the journal is empty")
        return None
    ours = loaded.instrument
    same = (header.instrument.venue, header.instrument.symbol) == (ours.venue, ours.symbol)
    if header.mode != loaded.settings.mode or not same or not is_own(f"{header.prefix}-1"):
        return None
    try:
        manifest: dict[str, Any] = run.read_manifest()
    except JournalError as fault:
        skipped(f"{path.name}: {fault}")
        return None
    traded = manifest.get(ACCOUNT)
    if traded != account:
        skipped(f"{path.name}: it traded the account {traded}, not {account}")
        return None
    story = _Story(path.name, header.started_at, header.instrument, _neutral(manifest))
    for record in records:
        story.take(record)
    return story


def _records(log: Path, skipped: Skipped) -> Iterator[Record]:
    """The records before the first damage."""
    try:
        yield from read_log(log)
    except JournalError as fault:
        skipped(str(fault))


def _neutral(manifest: dict[str, Any]) -> Decimal | None:
    text = manifest.get(NEUTRAL)
    try:
        return None if text is None else Decimal(str(text))
    except InvalidOperation:
        return None


def _add_up(stories: list[_Story], now: int) -> Previous:
    """Stories, oldest first, as one.

    A run that died before it had a position leaves that of the run before it standing, and the
    time from which executions are missing too.
    """
    position: Decimal | None = None
    neutral: Decimal | None = None
    keys: dict[FillKey, int] = {}
    source = stories[-1]
    for story in stories:
        lot, base = story.instrument.lot, story.instrument.base
        neutral = neutral if story.neutral is None else story.neutral
        if story.adopted:
            source = story
        for event in story.told:
            if isinstance(event, PositionAdopted):
                position = event.lots * lot
                continue
            key = (event.order_id, event.trade_id, event.side)
            if key in keys:
                continue
            keys[key] = event.at
            if position is not None:
                position += event.side * event.lots * lot
            if neutral is not None and event.fee is not None and event.fee_currency == base:
                neutral -= event.fee
    fresh = {key: at for key, at in keys.items() if at >= now - REMEMBERED_NS}
    return Previous(
        source.name, position, neutral, fresh, source.last_at, unfinished=tuple(source.open)
    )
