"""A market-making bot: one functional core and an imperative shell.

Where things are: domain (words), market (the book), core (decisions), venues (codecs), sim
(the paper world), journal (memory), shell (hands), ops (eyes), modes (wiring), cli. See
docs/ARCHITECTURE.md.
"""

import os
from hashlib import sha256
from pathlib import Path

__version__ = "0.1.0"

KERNELS = (
    "domain/tape.py",
    "market/kernels.py",
    "market/levels.py",
    "shell/lane.py",
    "sim/queue.py",
    "venues/booksync.py",
    "venues/binance/frames.py",
    "venues/binance/lines.py",
    "venues/binance/text.py",
)


def kernel_digest() -> str:
    """Digest of every source that a compiled kernel may be made of."""
    here = Path(__file__).parent
    return sha256(b"".join((here / name).read_bytes() for name in KERNELS)).hexdigest()[:16]


# numba's cache asks only whether a kernel's own file changed; a kernel also contains those
# that it calls from other files. One cache folder per state of all of them cannot be stale.
os.environ.setdefault(
    "NUMBA_CACHE_DIR", str(Path(__file__).parent / "__pycache__" / f"kernels-{kernel_digest()}")
)
