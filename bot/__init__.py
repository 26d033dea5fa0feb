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


def kernel_cache() -> Path:
    """Where compiled kernels are kept: beside the sources, or with the user where one may not.

    numba's cache asks only whether a kernel's own file changed; a kernel also contains those
    that it calls from other files. One folder per state of all of them cannot be stale.
    """
    name = f"kernels-{kernel_digest()}"
    here = Path(__file__).parent
    beside = here / "__pycache__"
    if os.access(beside if beside.exists() else here, os.W_OK):
        return beside / name
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "mmbot" / name


os.environ.setdefault("NUMBA_CACHE_DIR", str(kernel_cache()))
