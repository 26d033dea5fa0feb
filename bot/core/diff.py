"""Targets against working orders: the fewest messages, and no queue place given up for nothing.

An order is kept for a target of its side when its price is within `tolerance_ticks` plus
what its place in the queue is worth: up to `queue_value_ticks` more at the head of the
queue, nothing at its end. Orders whose cancel is on its way or whose fate is unknown are
neither kept nor cancelled again. An order under amendment is judged by what was asked for. Where
the venue amends in place, `pair` turns what is left over on both sides into amends.
"""

from collections.abc import Sequence
from typing import Literal

from bot.core.ladder import Target
from bot.core.orders import Order, OrderState
from bot.domain.decisions import Amend
from bot.domain.params import DiffParams

KEEPABLE = (
    OrderState.PENDING_NEW,
    OrderState.LIVE,
    OrderState.PARTIALLY_FILLED,
    OrderState.PENDING_AMEND,
)
AMENDABLE = (OrderState.LIVE, OrderState.PARTIALLY_FILLED)


def queue_value(order: Order, displayed: float, params: DiffParams) -> float:
    """Extra tolerance in ticks; `order.ahead` and `displayed` are quantities at its level."""
    if order.amending:
        return 0.0  # whatever the place was, it is given up
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
    the nearest order that fits; a partly filled order counts with the size last asked for.
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
            distance = abs(order.asked_tick - target.tick)
            if (
                (best < 0 or distance < best_distance)
                and abs(order.asked_lots - target.lots) <= slack
                and distance <= params.tolerance_ticks + queue_value(order, shown, params)
            ):
                best, best_distance = i, distance
        if best < 0:
            missing.append(target)
        else:
            del free[best]
    return [order for order, _ in free], missing


def pair(
    surplus: Sequence[Order], missing: Sequence[Target], how: Literal["none", "requeue", "reduce"]
) -> tuple[list[tuple[Order, Target]], list[Order], list[Target]]:
    """One side's `diff` with amends: (orders with new targets, those to cancel, targets to place).

    Nearest pairs first, of equally near ones the older order and the inner target. `how` is
    `EngineParams.amend`: "requeue" changes price and size, "reduce" only shrinks an order.
    """
    if how == "none":
        return [], list(surplus), list(missing)
    near = sorted(
        (abs(order.tick - target.tick), i, j)
        for i, order in enumerate(surplus)
        for j, target in enumerate(missing)
        if order.state in AMENDABLE and (how == "requeue" or shrinks(order, target))
    )
    partners: dict[int, int] = {}
    served: dict[int, int] = {}
    for _, i, j in near:
        if i not in partners and j not in served:
            partners[i], served[j] = j, i
    pairs = [(surplus[i], missing[j]) for i, j in partners.items()]
    cancels = [order for i, order in enumerate(surplus) if i not in partners]
    places = [target for j, target in enumerate(missing) if j not in served]
    return pairs, cancels, places


def shrinks(order: Order, target: Target) -> bool:
    """The target is the order with no more lots than it has left: its place can be kept."""
    return order.tick == target.tick and target.lots <= order.lots - order.filled_lots


def amendment(order: Order, target: Target) -> Amend | None:
    """What makes `order` the `target`, by whole-order lots; None when it already is that."""
    lots = target.lots + order.filled_lots
    if (order.tick, order.lots) == (target.tick, lots):
        return None
    return Amend(order.order_id, order.side, target.tick, lots, target.level)
