"""A text file whose writer never waits: a thread waits for the terminal instead.

A terminal that is held (Ctrl-S, a stalled remote shell) blocks whoever writes to it. That
must not be the event loop that trades.
"""

from queue import SimpleQueue
from threading import Thread
from typing import Final, TextIO

JOIN_S: Final = 1.0  # patience with a held terminal at the end


class Outlet:
    """Hands what is written between two flushes to a daemon thread, as one piece.

    `busy` while a piece is not through: whoever draws should skip a frame then, which
    bounds the queue. A terminal that went away (OSError) swallows the rest.
    """

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._buffer: list[str] = []
        self._pieces: SimpleQueue[str | None] = SimpleQueue()
        self._handed = 0
        self._through = 0
        self.gone: OSError | None = None
        self._thread = Thread(target=self._carry, name="terminal", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:
        """The target's, which decides about characters beyond ASCII."""
        return self._target.encoding or "utf-8"

    @property
    def busy(self) -> bool:
        """A piece is still under way to the terminal."""
        return self._through < self._handed

    def isatty(self) -> bool:
        """Whether the target is a terminal."""
        return self._target.isatty()

    def fileno(self) -> int:
        """The target's; raises as it does."""
        return self._target.fileno()

    def write(self, text: str) -> int:
        """Keep `text` until the next flush."""
        self._buffer.append(text)
        return len(text)

    def flush(self) -> None:
        """Hand everything kept to the thread."""
        if self._buffer:
            self._handed += 1
            self._pieces.put("".join(self._buffer))
            self._buffer.clear()

    def close(self, patience_s: float = JOIN_S) -> bool:
        """Write the rest; False if the terminal did not take it within `patience_s`."""
        self.flush()
        self._pieces.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _carry(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self.gone is None:
                    self._target.write(piece)
                    self._target.flush()
            except OSError as error:
                self.gone = error
            finally:
                self._through += 1

    def __repr__(self) -> str:
        return f"<Outlet {self._through} of {self._handed} pieces through, gone={self.gone}>"
