"""What the bot can do. All names are imperative; a decision is data, the shell acts on it."""

import msgspec

from bot.domain.units import Side


class Place(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Rest a post-only limit order of `lots` at `tick`; `level` 0 is the innermost."""

    order_id: str
    side: Side
    tick: int
    lots: int
    level: int


class Cancel(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Take one own order out of the venue's book."""

    order_id: str


class Amend(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Move one own order to `tick` with `lots` in all, those included that have traded."""

    order_id: str
    side: Side
    tick: int
    lots: int
    level: int


class Resync(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Throw the book away and build it anew from a snapshot."""

    reason: str


class Trip(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A breaker tripped: every quote is cancelled in the same batch of decisions."""

    level: str
    cause: str
    evidence: dict[str, float]


class Rearm(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Quoting is allowed again after `cause`, at `size` of the normal size."""

    cause: str
    size: float


Decision = Place | Amend | Cancel | Resync | Trip | Rearm
Request = Place | Amend | Cancel  # what goes to a venue
