"""Client order ids: which orders are ours, which are of this run, which the venue made. Pure.

A run's ids are its prefix, a dash and a number: "mm1a2b3c-42". Binance takes ids of up to 36
letters, digits and `.:/_-` ("New Order": newClientOrderId).
"""

import re
from typing import Final

OWN_ID: Final = re.compile(r"mm[0-9a-f]{6}-\d+")
_PREFIX: Final = re.compile(r"mm[0-9a-f]{6}")

# What the venue names the orders that it closes a position with: liquidation, auto-deleveraging
# (USD-M "Event: Order Update"), settlement and delivery of a contract.
FORCED: Final = ("autoclose-", "adl_autoclose", "settlement_autoclose-", "delivery_autoclose-")


def new_prefix(run_id: str) -> str:
    """The prefix of a run; `run_id` is hex digits that no other run has, six of which are taken."""
    return checked_prefix(f"mm{run_id[:6]}")


def is_own(order_id: str) -> bool:
    """Whether a run of this program made the id, this one or any before."""
    return OWN_ID.fullmatch(order_id) is not None


def is_of_run(order_id: str, prefix: str) -> bool:
    """Whether the run with this prefix made the id."""
    return is_own(order_id) and order_id.startswith(f"{prefix}-")


def is_forced(order_id: str) -> bool:
    """Whether the venue closes our position with this order."""
    return order_id.startswith(FORCED)


def checked_prefix(prefix: str) -> str:
    """The prefix itself; raises ValueError for one whose ids would not be recognised as ours."""
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"{prefix!r} is no prefix of client ids: mm and six hex digits")
    return prefix
