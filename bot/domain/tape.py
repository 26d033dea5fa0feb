"""Market events as rows: what a codec writes and the book, the paper venue and the engine read.

A tape is three arrays. `rows` holds one row an event in receive order; a row that
changes the book points at its levels, `n_bid` bids and then `n_ask` asks from index
`lo`, in `ticks` (int64) and `qtys` (float64, absolute, 0 removes).
Rows are read by compiled kernels, so they are numpy records instead of Structs; a tape
is overwritten by its codec's next call.

One received frame becomes one or more rows (a snapshot releases the deltas buffered
before it); the last of them has `frame_end` = 1, and nothing is decided before it.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Kinds of rows. The core sees events only, never a venue's sequence numbers at work:
# NOTHING is a frame that carried none (duplicate, foreign, unreadable; counted by the codec).
NOTHING: Final = 0
BOOK_RESET: Final = 1  # levels replace the whole book
BOOK_CHANGED: Final = 2  # levels are absolute quantities
TOUCH_CHANGED: Final = 3  # best bid and ask as the venue's ticker states them
TRADED: Final = 4  # `bid` is the price, `bid_qty` the quantity, `side` the aggressor's
BOOK_LOST: Final = 5  # the chain broke; `side` holds the cause (LOST_*)

# Why a book was lost.
LOST_GAP: Final = 1  # an update id is missing
LOST_UNREADABLE: Final = 2  # a depth frame could not be read
LOST_RESYNC: Final = 3  # the engine asked for a new book
LOST_DISCONNECT: Final = 4  # the stream went away, or its receive time jumped back
LOST_OVERFLOW: Final = 5  # a buffer was full

LOST_NAMES: Final = {
    LOST_GAP: "gap",
    LOST_UNREADABLE: "unreadable_depth",
    LOST_RESYNC: "resync_asked",
    LOST_DISCONNECT: "disconnect",
    LOST_OVERFLOW: "overflow",
}

ROW: Final = np.dtype(
    [
        ("kind", np.int64),
        ("recv", np.int64),  # receive time, ns
        ("exch", np.int64),  # exchange time, ns; 0 where the venue states none
        ("matched", np.int64),  # matching time, ns, where stated apart from `exch`, else `exch`
        ("first_id", np.int64),  # first update id in the event
        ("last_id", np.int64),  # last update id in the event
        ("prev_id", np.int64),  # last update id of the event before, -1 where not stated
        ("lo", np.int64),
        ("n_bid", np.int64),
        ("n_ask", np.int64),
        ("bid", np.int64),  # ticks
        ("ask", np.int64),  # ticks
        ("bid_qty", np.float64),
        ("ask_qty", np.float64),
        ("side", np.int64),
        ("frame_end", np.int64),
        ("text_end", np.int64),  # offset just after this frame in the chunk it came from
    ]
)


class Tape(NamedTuple):
    """Rows 0 to `n` of `rows` with their levels; `text` is the chunk that they were read from.

    `text_from` is the offset of the first row's frame in `text`; `memory` is `rows` as bytes.
    """

    rows: NDArray[Any]
    memory: NDArray[Any]
    n: int
    ticks: NDArray[Any]
    qtys: NDArray[Any]
    text: bytes
    text_from: int
