"""A venue on loopback that fails on demand: combined streams and one REST path on one port."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

SNAPSHOT = b'{"lastUpdateId":1,"bids":[["1.0","2"]],\n"asks":[["1.1","2"]]}\n'

# status, headers, body; None never answers
Answer = tuple[int, dict[str, str], bytes] | None


def envelope(stream: str, n: int) -> str:
    return f'{{"stream":"{stream}","data":{{"n":{n}}}}}'


class FeedServer:
    """Publishes numbered frames on every stream that a socket asked for, every `interval_s`."""

    def __init__(self, interval_s: float = 0.002) -> None:
        self.port = 0
        self.refusal: Answer = None  # of handshakes
        self.snapshots: list[Answer] = []  # answers before the good one
        self.snapshot_times: list[float] = []
        self.handshake_times: list[float] = []
        self.sockets: list[ServerConnection] = []
        self.mute: set[str] = set()  # kinds of streams that say nothing on any socket
        self.published = 0
        self._interval_s = interval_s
        self._server: Server | None = None
        self._publisher: asyncio.Task[None] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "FeedServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def handshakes(self) -> int:
        return len(self.handshake_times)

    async def start(self) -> None:
        self._server = await serve(
            self._hold,
            "127.0.0.1",
            self.port,
            process_request=self._answer,
            compression=None,
            ping_interval=None,
            close_timeout=0.05,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        if self._interval_s:
            self._publisher = asyncio.create_task(self._publish_for_ever())

    async def stop(self) -> None:
        """Die without a word."""
        if self._publisher is not None:
            self._publisher.cancel()
            await asyncio.wait({self._publisher})
            self._publisher = None
        for socket in self.sockets:
            socket.transport.abort()
        assert self._server is not None
        self._server.close(close_connections=True)
        await self._server.wait_closed()

    def publish(self) -> None:
        """One numbered frame on every stream of every socket that reads."""
        self.published += 1
        for socket in self.sockets:
            for stream in streams_of(socket):
                if stream.split("@")[1] not in self.mute:
                    self.send(socket, envelope(stream, self.published))

    def send(self, socket: ServerConnection, text: str) -> None:
        """Write at once, without waiting for the reader."""
        if socket.protocol.state.name == "OPEN":
            socket.protocol.send_text(text.encode())
            socket.send_data()

    async def _publish_for_ever(self) -> None:
        while True:
            self.publish()
            await asyncio.sleep(self._interval_s)

    async def _hold(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        try:
            await socket.wait_closed()
        finally:
            self.sockets.remove(socket)

    async def _answer(self, socket: ServerConnection, request: Request) -> Response | None:
        if "/depth?" in request.path:
            self.snapshot_times.append(asyncio.get_running_loop().time())
            answer = self.snapshots.pop(0) if self.snapshots else (200, {}, SNAPSHOT)
            if answer is None:
                await socket.wait_closed()  # the caller gives up first
                answer = (503, {}, b"")
            return response(answer)
        self.handshake_times.append(asyncio.get_running_loop().time())
        return None if self.refusal is None else response(self.refusal)


def response(answer: Answer) -> Response:
    assert answer is not None
    status, headers, body = answer
    reason = HTTPStatus(status).phrase
    length = {"Content-Length": str(len(body)), "Connection": "close"}
    fields = Headers({**length, **headers})
    if "Retry-After" in headers:
        fields["Retry-After"] = headers["Retry-After"]  # a second line of the same name
    return Response(status, reason, fields, body)


def streams_of(socket: ServerConnection) -> Iterator[str]:
    assert socket.request is not None
    yield from socket.request.path.split("?streams=")[1].split("/")
