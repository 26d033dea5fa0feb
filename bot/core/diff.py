"""Targets against working orders: the fewest messages, and no queue place given up for nothing.

An order is kept for a target of its side when its price is within `tolerance_ticks` plus
what its place in the queue is worth: up to `queue_value_ticks` more at the head of the
queue, nothing at its end. Orders whose cancel is on its way or whose fate is unknown are
neither kept nor cancelled again.
"""

from collections.abc import Sequence

from bot.core.ladder import Target
from bot.core.orders import Order, OrderState
from bot.domain.params import DiffParams

KEEPABLE = (OrderState.PENDING_NEW, OrderState.LIVE, OrderState.PARTIALLY_FILLED)


def queue_value(order: Order, displayed: float, params: DiffParams) -> float:
    """Extra tolerance in ticks; `order.ahead` and `displayed` are quantities at its level."""
    if displayed <= 0.0:
        return params.queue_value_ticks
    return params.queue_value_ticks * max(0.0, 1.0 - order.ahead / displayed)


def diff(
    targets: Sequence[Target],
    working: Sequence[Order],
    displayed: Sequence[float],
    params: DiffParams,
) -> tuple[list[Order], list[Target]]:
    """One side: (orders to cancel, targets to place), both in the order given.

    `displayed` holds the quantity shown at each working order's level. Each target keeps
    the nearest order that fits; a partly filled order counts with its original size.
    """
    free = [
        (order, shown)
        for order, shown in zip(working, displayed, strict=True)
        if order.state in KEEPABLE
    ]
    missing: list[Target] = []
    for target in targets:
        slack = params.lots_tolerance * target.lots
        best = -1
        best_distance = 0
        for i, (order, shown) in enumerate(free):
            distance = abs(order.tick - target.tick)
            if (
                (best < 0 or distance < best_distance)
                and abs(order.lots - target.lots) <= slack
                and distance <= params.tolerance_ticks + queue_value(order, shown, params)
            ):
                best, best_distance = i, distance
        if best < 0:
            missing.append(target)
        else:
            del free[best]
    return [order for order, _ in free], missing
