"""The market's habits in a symbol's units."""

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from bot.sim.habits import PATTERN, ROUND, SPOT, USDM, FlowParams, popularity, shelf_of


def test_zones_cover_every_distance_once() -> None:
    for params in (USDM, SPOT):
        shelves = [shelf_of(zone, params) for zone in params.zones]
        assert (shelves[0].near, shelves[0].far, shelves[1].near) == (0, 1, 1)
        assert [one.near for one in shelves[2:]] == [one.far for one in shelves[1:-1]]
        assert shelves[-1].far == params.zones[-1].far * params.tick_scale


@pytest.mark.parametrize("params", [USDM, SPOT])
def test_levels_hold_what_the_zone_aims_at(params: FlowParams) -> None:
    for zone in params.zones:
        shelf = shelf_of(zone, params)
        levels = zone.occupied * (zone.far - zone.near)
        assert levels * shelf.level_lots == pytest.approx(zone.lots * params.lot_scale)


def test_orders_are_as_large_as_their_law_says() -> None:
    sizes = USDM.order_lots_median * np.exp(
        USDM.order_lots_log_spread * Generator(PCG64(1)).standard_normal(400_000)
    )
    near, far = shelf_of(USDM.zones[0], USDM), shelf_of(USDM.zones[-1], SPOT)
    assert near.order_lots == pytest.approx(sizes.mean(), rel=0.1)
    assert far.order_lots == pytest.approx(
        near.order_lots * USDM.zones[-1].order_x * SPOT.lot_scale
    )


def test_round_prices_are_more_popular() -> None:
    ranks = np.array(popularity(Generator(PCG64(1))))
    assert sorted(ranks) == pytest.approx(np.arange(PATTERN) / PATTERN)
    assert ranks[::ROUND].mean() < 0.2 < ranks.mean()
