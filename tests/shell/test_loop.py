"""Connections that are given up leave no descriptor behind that is closed a second time."""

import asyncio
import gc
import socket
import warnings

import pytest
import uvloop

from bot.shell.loop import Loop, run


async def given_up(sock: socket.socket) -> None:
    """Begin to make a connection of a connected socket, and cancel it at once."""
    loop = asyncio.get_running_loop()
    making = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, sock=sock))
    await asyncio.sleep(0)  # it waits for the protocol to be told
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making


@pytest.mark.parametrize(("kind", "stale"), [(Loop, False), (uvloop.Loop, True)])
def test_who_owns_the_descriptor_of_a_connection_given_up(
    kind: type[asyncio.AbstractEventLoop], stale: bool
) -> None:
    """The second case is why the first exists: once it fails, uvloop needs no help any more."""

    async def main() -> int:
        here, there = socket.socketpair()
        with there:
            here.setblocking(False)
            await given_up(here)
            left = here.fileno()
            here.detach()  # whatever that number is by now, it is not ours
            return left

    with asyncio.Runner(loop_factory=kind) as runner:
        assert (runner.run(main()) >= 0) is stale


def test_no_connection_pays_for_another_one_given_up() -> None:
    """The number of a closed descriptor is given away again at once."""

    async def main() -> list[bytes]:
        heard = []
        for turn in range(5):
            here, there = socket.socketpair()
            here.setblocking(False)
            await given_up(here)
            there.close()
            near, far = socket.socketpair()  # one of them has the number now
            reader, writer = await asyncio.open_connection(sock=near)
            del here
            gc.collect()
            far.sendall(b"%d\n" % turn)
            async with asyncio.timeout(5.0):
                heard.append(await reader.readline())
            writer.close()
            await writer.wait_closed()
            far.close()
        return heard

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(main()) == [b"%d\n" % turn for turn in range(5)]


def test_connections_are_made_as_ever() -> None:
    async def main() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"as ever\n")
            said = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return said

    assert run(main()) == b"as ever\n"


def test_a_failure_comes_out() -> None:
    async def main() -> None:
        await asyncio.open_connection("127.0.0.1", 1)

    with pytest.raises(OSError, match=r"refused|Connect"):
        run(main())
