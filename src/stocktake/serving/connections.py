"""Connections that cannot be held without being used: half headers end, and nobody's silence takes another's place.

uvicorn closes a connection that is idle between two requests; one whose next request has begun, or never began, it
keeps for ever, and every one takes a file descriptor. What a whole head is followed by has `body_timeout_s`.
"""

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from stocktake.serving.errors import RejectedRequest

try:
    import resource
except ModuleNotFoundError:  # Windows has no such limit
    resource = None

HEAD_TIMEOUT_S = 10  # for a whole head to arrive, and for the last answer to be taken; uvicorn's keep-alive is shorter
LINGER_S = 2  # for a client that still sends to see that it is refused
MAX_CONNECTIONS = 512
MAX_CHUNKS = 10_000  # of a body; each costs 12 us, whatever it holds, and clients send some 100 of 64 KiB
NOT_HTTP = "This is no request of HTTP/1.1."
NOT_HTTP_HINT = "Send Host, and one Content-Length: <bytes of the body>, as any HTTP client does by itself."


class Connections:
    """All connections of a server, by how long each has been waiting for its client."""

    def __init__(self, max_connections: int | None = None, head_timeout_s: float = HEAD_TIMEOUT_S):
        self.max_connections, self.head_timeout_s = max_connections or _max_connections(), head_timeout_s
        self.num_accepted_at_once = max(1, self.max_connections // 4)  # before they can be counted
        self.num_open = 0
        self.waiting: dict[Connection, None] = {}  # the longest first

    @property
    def protocol(self) -> "type[Connection]":
        """The class of which uvicorn makes one for each new connection."""

        class OneOfThese(Connection):
            _all = self

        return OneOfThese


class Connection(H11Protocol):
    """uvicorn's connection, which is dropped when its client lets it wait, and first of all where places are short."""

    _all: Connections

    def __init__(self, **options):
        super().__init__(**options)
        self._deadline: asyncio.TimerHandle | None = None
        self.conn = Parser(h11.SERVER, self.config.h11_max_incomplete_event_size or 65536)

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(cast(asyncio.Transport, ClosedGently(transport, self)))
        self._all.num_open += 1
        self._wait()
        if self._all.num_open > self._all.max_connections:
            longest = next(iter(self._all.waiting))
            longest._go_on()
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.num_open -= 1
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # the rest of what is refused
            return
        super().data_received(data)
        self._look()

    def _should_upgrade(self) -> bool:
        return (
            False  # else the log would tell whoever reads it what to install for WebSockets, as often as anybody likes
        )

    def send_400_response(self, msg: str) -> None:
        """Says what is wrong in the words of every other refusal; an answer that has begun can only be broken off."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        rejected = RejectedRequest(400, "no-http", self.conn.problem or NOT_HTTP, NOT_HTTP_HINT)
        content = bytes(rejected.response().body)
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        for event in (
            h11.Response(status_code=400, headers=list(headers.items())),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:  # the client takes no more of its answer
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def _look(self) -> None:
        """Notes whose turn it is: the client's until its request is whole, and once it is answered."""
        if self.cycle is None or self.cycle.response_complete or self.flow.write_paused:
            self._wait()
        elif self.cycle.more_body:  # for which the app has a deadline
            self._stop_clock()
        else:
            self._go_on()

    def _wait(self) -> None:
        self._all.waiting.setdefault(self)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._all.head_timeout_s, self.transport.abort)

    def _go_on(self) -> None:
        self._all.waiting.pop(self, None)
        self._stop_clock()

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class ClosedGently:
    """asyncio's transport, whose `close` lets a client that still sends read why.

    Where bytes come that nobody takes, the kernel resets the connection, and the answer may be lost with it (RFC 9112,
    section 9.6). So it ends with the client, or after LINGER_S.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection):
        self._transport, self._connection, self._is_closing = transport, connection, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or self._connection.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            self._transport.close()
            return
        self._is_closing = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._connection.loop.call_later(LINGER_S, self._transport.abort)


class Parser(h11.Connection):
    """h11's parser, which keeps what is wrong, and reads a body of so many chunks and no more."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.problem, self._num_chunks = "", 0

    def next_event(self):
        """
        Raises:
            h11.RemoteProtocolError: What came is not HTTP, or a body in too many chunks.
        """
        try:
            event = super().next_event()
            if isinstance(event, h11.Data):
                self._num_chunks += event.chunk_start
                if self._num_chunks > MAX_CHUNKS:
                    raise h11.RemoteProtocolError(f"a body in more than the {MAX_CHUNKS} chunks that are read")
            elif isinstance(event, h11.Request):
                self._num_chunks = 0
                # What stands before this server may go by the other of the two, and take one request for two (RFC 9112,
                # section 6.1).
                if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                    raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        except h11.RemoteProtocolError as error:
            self.problem = f"This is no request that is read here: {' '.join(str(error).split())[:200]}."
            raise
        return event


def _max_connections() -> int:
    """Returns as many as leave half the file descriptors to everything else."""
    if resource is None:
        return MAX_CONNECTIONS
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if most == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, most // 2))
