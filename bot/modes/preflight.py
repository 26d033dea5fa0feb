"""Why a start is refused before anything was sent: one sentence, exit 3."""

from typing import Final

EXIT_REFUSED: Final = 3


class PreflightRefused(Exception):
    """The bot may not start like this; `str()` is one sentence that says what would help."""
