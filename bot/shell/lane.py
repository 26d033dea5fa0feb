"""The compiled lane: book and paper venue over many rows, until somebody has to think.

Frame by frame and in bulk are the same code: a live frame is a tape of one. Between two
decisions nothing but these kernels touches a row, so a replay makes the same decisions
however many rows one call takes.
"""

from typing import Any, Final

from numba import njit
from numpy.typing import NDArray

from bot.domain.tape import ROW
from bot.market.kernels import learn_row
from bot.market.levels import BOOK
from bot.sim.queue import SLOT, observe_row

END: Final = 0  # all rows learned
DUE: Final = 16  # the next row was received at or after `until`

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def advance(
    book_memory: Array,
    row_memory: Array,
    i: int,
    n: int,
    level_tick: Array,
    level_qty: Array,
    until: int,
    slot_memory: Array,
    n_slots: int,
    model: int,
    power: float,
) -> tuple[int, int, int]:
    """Learn rows from `i`: (first row not learned, frames ended, flags or END or DUE).

    Stops behind the frame that raised a flag, before a frame received at or after `until`,
    and never inside a frame. Flags are MOVED, TRUST and FILLED. The three memories are a
    book, rows of a tape and slots, as bytes.
    """
    book = book_memory.view(BOOK)
    rows = row_memory.view(ROW)
    slots = slot_memory.view(SLOT)
    frames = 0
    flags = 0
    # `n` may cut a frame's rows apart; its last row is never far.
    while i < n or (i > 0 and rows[i - 1]["frame_end"] == 0):
        if rows[i]["recv"] >= until and (i == 0 or rows[i - 1]["frame_end"] == 1):
            return i, frames, DUE
        flags |= learn_row(book, rows, i, level_tick, level_qty)
        flags |= observe_row(book, rows, i, slots, n_slots, model, power)
        ended = rows[i]["frame_end"] == 1
        i += 1
        if ended:
            frames += 1
            if flags != 0:
                return i, frames, flags
    return i, frames, END
