"""What one picture of the terminal is drawn from: frozen data, taken at one moment."""

from typing import Final, Literal

import msgspec

from bot.domain.instrument import Instrument
from bot.domain.view import View

# The causes of a run that has not seen a book yet.
WAITING: Final = ("not_ready",)

Tone = Literal["good", "plain", "wary", "bad"]


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """How the run itself is doing. None is "not measured yet".

    `venue` is a label ("binance spot"). `simulated` says that the market is made up; `orders`
    says where the orders go when it is not. `two_sided` is a share of the time, 0 to 1.
    """

    venue: str
    simulated: bool
    orders: Literal["paper", "testnet", "live"] = "paper"
    scenario: str = ""
    run_s: float = 0.0
    feed_lag_ms: float | None = None
    decide_p50_us: float | None = None  # from a frame's arrival to the decision
    decide_p99_us: float | None = None
    loop_lag_p99_ms: float | None = None
    frames_per_s: float = 0.0
    placed: int = 0
    cancelled: int = 0
    fills: int = 0
    two_sided: float = 0.0
    connections: int = 0
    reconnects: int = 0
    gaps: int = 0
    resyncs: int = 0
    halts: int = 0


class Notable(msgspec.Struct, frozen=True):
    """One line of the ticker: something happened at `at` (ns), `times` in a row."""

    at: int
    kind: str
    text: str
    tone: Tone = "plain"
    times: int = 1


class Screen(msgspec.Struct, frozen=True):
    """One picture. `max_position_lots` is the limit behind the position's bar, 0 if none;
    `events` are oldest first.
    """

    view: View
    instrument: Instrument
    vitals: Vitals
    max_position_lots: int = 0
    events: tuple[Notable, ...] = ()
