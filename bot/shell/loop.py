"""The event loop of every command: uvloop, kept from closing a descriptor twice.

When the making of a connection is cancelled on a socket that was handed in, uvloop 0.22.1 closes
its descriptor, and the socket goes on believing that it owns that number. Once collected it closes
whatever has the number by then: another connection, or a journal (MagicStack/uvloop, issue 738).
aiohttp hands its sockets in, and every request that times out is cancelled.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")


class Loop(uvloop.Loop):
    """uvloop whose failed connections leave no socket with a stale descriptor."""

    async def create_connection(self, *args: Any, **named: Any) -> Any:
        """As asyncio's; a socket that was handed in is the loop's from here on, come what may."""
        sock, made = named.get("sock"), False
        try:
            connection = await super().create_connection(*args, **named)
            made = True
        finally:
            if sock is not None and not made:
                sock.detach()  # the loop has closed it
        return connection


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run `main` to its end on a loop of its own."""
    return uvloop.run(main, loop_factory=Loop)
