"""Weather for the simulated market, as data: what changes, when, and for how long.

A scenario is a list of phases that follow each other from the start of the flow and then
begin again. Everything is relative to the calm market, so one scenario fits every symbol.
"""

from typing import Final

import msgspec

from bot.domain.units import NS_PER_S


class Phase(msgspec.Struct, frozen=True):
    """One stretch of a scenario.

    `drift_bp` moves the fair value each second by so many basis points of the start price;
    `depth` multiplies the size that makers want to show; while `feed_stalled` the market
    goes on and nobody is told.
    """

    seconds: float
    drift_bp: float = 0.0
    depth: float = 1.0
    feed_stalled: bool = False


class Scenario(msgspec.Struct, frozen=True):
    """Phases in order, repeated for ever."""

    name: str
    phases: tuple[Phase, ...]

    def at(self, elapsed: int) -> tuple[Phase, int]:
        """The phase `elapsed` ns after the start, and when it ends (ns after the start)."""
        lengths = [round(phase.seconds * NS_PER_S) for phase in self.phases]
        assert min(lengths) > 0
        end = elapsed - elapsed % sum(lengths)
        for phase, length in zip(self.phases, lengths, strict=True):
            end += length
            if elapsed < end:
                return phase, end
        raise AssertionError("a remainder is less than its divisor")


CALM: Final = Scenario("calm", (Phase(3600.0),))

TREND: Final = Scenario(
    "trend",
    (Phase(10.0), Phase(60.0, drift_bp=0.5), Phase(10.0), Phase(60.0, drift_bp=-0.5)),
)

WHIPSAW: Final = Scenario(
    "whipsaw",
    (
        Phase(5.0),
        *(Phase(seconds, drift_bp=bp) for _ in range(5) for seconds, bp in ((1.5, 6), (1.5, -6))),
    ),
)

CLIFF: Final = Scenario("cliff", (Phase(20.0), Phase(5.0, depth=0.03)))

STALL: Final = Scenario("stall", (Phase(20.0), Phase(6.0, feed_stalled=True)))

SCENARIOS: Final = {one.name: one for one in (CALM, TREND, WHIPSAW, CLIFF, STALL)}
