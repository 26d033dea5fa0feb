"""Why a start is refused before anything was sent: one sentence, exit 3; or nobody answers: 5."""

from enum import Enum
from typing import Final

import msgspec

from bot.domain.instrument import Fees, Instrument
from bot.venues.orderentry import Holdings

EXIT_REFUSED: Final = 3
EXIT_UNREACHABLE: Final = 5


class PreflightRefused(Exception):
    """The bot may not start like this; `str()` is one sentence that says what would help."""


class VenueUnreachable(Exception):
    """The venue gives no answer, so that nothing is known of it; `str()` is one sentence."""


class Level(Enum):
    """Whether the bot may start: yes, yes but somebody should know, no."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """What came out about one thing, in one sentence without a stop."""

    name: str
    level: Level
    text: str


class Examination(msgspec.Struct, frozen=True):
    """What was found, in the order of asking, and the venue's terms as far as they are known.

    `offset_ms` is our clock minus the venue's. `unreachable`: the asking ended early because
    the venue did not answer.
    """

    findings: tuple[Finding, ...]
    unreachable: bool = False
    instrument: Instrument | None = None
    fees: Fees | None = None
    holdings: Holdings | None = None
    offset_ms: int | None = None

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(found for found in self.findings if found.level is Level.FAIL)

    @property
    def code(self) -> int:
        """The exit code that it deserves."""
        if self.unreachable:
            return EXIT_UNREACHABLE
        return EXIT_REFUSED if self.failures else 0


def refuse_if_failed(examination: Examination) -> None:
    """Raise PreflightRefused, or VenueUnreachable, with the first sentence that failed."""
    failures = examination.failures
    if examination.unreachable:
        raise VenueUnreachable(failures[-1].text)  # the asking ended with it
    if failures:
        raise PreflightRefused(failures[0].text)
