"""A kernel cache that may only be read, as in a container with a read-only root.

numba takes a cache folder only if it can write there, and refuses to start otherwise. Name
`bot.modes.prepared.Prepared` in NUMBA_CACHE_LOCATOR_CLASSES and the kernels that lie in
NUMBA_CACHE_DIR are loaded from it as they are.
"""

import errno
from pathlib import Path
from typing import Any

from numba.core.caching import UserProvidedCacheLocator


class Prepared(UserProvidedCacheLocator):
    """Finds a kernel's folder below NUMBA_CACHE_DIR without asking to write in it."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "Prepared | None":
        """The locator of a kernel, or None (numba then refuses) where nothing was prepared."""
        locator = cls(py_func, py_file)
        return locator if Path(locator._cache_path).is_dir() else None

    def ensure_cache_path(self) -> None:
        """Called to store what was just compiled: there should have been nothing to compile.

        A compilation while quotes rest would hold up their cancels for seconds, so it is an
        error and no delay.
        """
        raise OSError(
            errno.EROFS,
            "a kernel had to be compiled that the prepared cache lacks; prepare it again with "
            "python -m bot.modes.warmup under the same NUMBA_CPU_NAME, or make NUMBA_CACHE_DIR "
            "writable and leave NUMBA_CACHE_LOCATOR_CLASSES empty",
            self._cache_path,
        )
