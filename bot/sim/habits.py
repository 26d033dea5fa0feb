"""What the simulated market's participants usually do: the numbers behind `flow`.

The defaults are calibrated to the Binance USD-M BTCUSDT capture of 2024-08-08 whose
figures stand in `tests/sim/measure.py`.
"""

from math import exp
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.random import Generator

from bot.sim.scenarios import CALM, Scenario

PATTERN: Final = 10_000  # ticks until the pattern of popular prices repeats
ROUND: Final = 10  # every so many ticks is a round price


class Zone(msgspec.Struct, frozen=True):
    """Levels at `near` <= distance < `far` from their own side's touch, in model ticks.

    Makers aim at `lots` in the whole zone, on the `occupied` fraction of its ticks; about
    half rests there on average: takers take, and a large order is soon thought better of.
    Makers pay `visits` a second and side; orders are `order_x` times as large as at the
    touch.
    """

    near: int
    far: int
    lots: float
    occupied: float
    visits: float
    order_x: float = 1.0


# The capture's snapshot thins out beyond 1,000 ticks: there the zone need only be plausible.
ZONES: Final = (
    Zone(0, 1, 7_000, 1.0, 95),
    Zone(1, 10, 2_200, 0.16, 25),
    Zone(10, 50, 2_000, 0.24, 45),
    Zone(50, 200, 92_000, 0.53, 100),
    Zone(200, 1_000, 560_000, 0.70, 280, 2.5),
    Zone(1_000, 5_000, 1_200_000, 0.25, 180, 5.0),
)


class FlowParams(msgspec.Struct, frozen=True):
    """The market in model units: ticks of 0.1 and lots of 0.001, as BTCUSDT USD-M has them.

    `tick_scale` and `lot_scale` are the symbol's ticks and lots to one of the model's;
    `start_tick` counts the symbol's own ticks. Rates are events a second, `reach`, `band`,
    `diffusion` and `news_ticks` are ticks.
    """

    start_tick: int = 616_000
    tick_scale: int = 1
    lot_scale: int = 1
    scenario: Scenario = CALM
    zones: tuple[Zone, ...] = ZONES
    order_lots_median: float = 22.0
    order_lots_log_spread: float = 2.2  # of the log-normal law of sizes
    order_lots_max: float = 20_000.0
    improve_rate: float = 260.0  # while the spread is open
    improve_size_x: float = 10.0
    noise_rate: float = 9.0
    noise_size_x: float = 1.2
    noise_lean: float = 0.22  # what the persistent side adds to a chance of one half
    noise_turn: float = 0.04  # chance that the persistent side turns, at each order
    noise_imbalance: float = 0.1  # what a queue without an opposite adds to that chance
    reach: int = 300  # how far a noise taker goes through the book
    impact: float = 0.005  # ticks of fair value for each lot taken
    transient: float = 0.2  # share of an impact or a jump that is forgotten
    transient_seconds: float = 2.0  # until a third of that share is left
    informed_rate: float = 250.0  # while the fair value is more than `band` beyond the touch
    informed_lots: float = 1_500.0
    retreat_rate: float = 500.0  # of makers' cancels meanwhile
    band: float = 20.0
    diffusion: float = 15.0  # of the fair value in one second
    news_rate: float = 0.45
    news_ticks: float = 92.0  # mean size of a jump
    withdraw_seconds: float = 0.5  # in which makers leave when depth vanishes


USDM: Final = FlowParams()
SPOT: Final = FlowParams(start_tick=6_160_000, tick_scale=10, lot_scale=100)


class Shelf(NamedTuple):
    """A zone in the symbol's own ticks and lots; `level_lots` and `order_lots` are means."""

    near: int
    far: int
    occupied: float
    level_lots: float
    order_lots: float
    order_x: float


def shelf_of(zone: Zone, params: FlowParams) -> Shelf:
    """A zone in the units of the symbol; where ticks are finer, levels stand farther apart."""
    assert (zone.near == 0) == (zone.far == 1)  # the touch is one level, whatever a tick is
    scale = params.tick_scale if zone.near > 0 else 1
    mean = params.order_lots_median * exp(params.order_lots_log_spread**2 / 2)
    return Shelf(
        near=zone.near * scale if zone.near > 1 else zone.near,  # the touch has a neighbour
        far=zone.far * scale,
        occupied=zone.occupied,
        level_lots=zone.lots * params.lot_scale / (zone.occupied * (zone.far - zone.near)),
        order_lots=mean * zone.order_x * params.lot_scale,
        order_x=zone.order_x,
    )


def popularity(generator: Generator) -> list[float]:
    """Rank in [0, 1) of each of PATTERN consecutive prices; low is popular.

    A zone uses the prices that rank below its `occupied`: round ones are used more, and a
    price used by a sparse zone is used by every denser one as well.
    """
    scores = generator.random(PATTERN)
    scores[::ROUND] *= 0.25
    ranks: list[float] = (np.argsort(np.argsort(scores)) / PATTERN).tolist()
    return ranks
