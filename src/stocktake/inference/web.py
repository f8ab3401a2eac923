"""What a web server answers, within a deadline for all of it.

The timeout of a socket begins anew with every byte, so a server that trickles would never reach it.
"""

import contextlib
import functools
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse

A_WEEK_S = 7 * 86_400  # more seconds than a socket can count are an OverflowError


@contextlib.contextmanager
def open_response(request: urllib.request.Request, timeout_s: float) -> Iterator[HTTPResponse | urllib.error.HTTPError]:
    """Sends a request to http:// or https:// and yields the response, also one of an error, to be read inside.

    Args:
        timeout_s: From the first connection to the last byte that is read, redirects among them.

    Raises:
        TimeoutError: It took longer.
        OSError: There is no response.
    """
    seconds = min(timeout_s, A_WEEK_S)
    with _Deadline(seconds) as deadline:
        try:
            with _opened(request, seconds, deadline) as response:
                yield response
        except (OSError, http.client.HTTPException):
            if not deadline.is_over:
                raise
        if deadline.is_over:
            raise TimeoutError(
                f"it did not answer within timeout_s={timeout_s:g}; type a larger timeout_s to wait longer"
            )


def _opened(
    request: urllib.request.Request, timeout_s: float, deadline: "_Deadline"
) -> HTTPResponse | urllib.error.HTTPError:
    try:
        return urllib.request.build_opener(_Handler(deadline), _Redirects).open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        return error


class _Deadline:
    """Ends every connection of a request once its time is over."""

    def __init__(self, seconds: float):
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    def watch(self, connection: socket.socket) -> None:
        # TLS takes the socket over; what is shut down through a duplicate is shut down for both.
        with self._lock:
            self._sockets.append(connection.dup())
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # the server may have been faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    deadline: _Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)

    def request(self, *arguments, **options) -> None:
        try:
            super().request(*arguments, **options)
        except (BrokenPipeError, ConnectionResetError):
            if self.sock is None:  # it never came to be
                raise
            # A server that refuses a body need not read it to its end; what it says of it is there to be read.


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """Watched before the handshake, which may trickle, too: HTTPS connects by `_Connection`, then shakes hands."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes no other way than it came: urllib would follow to ftp://, whose connections no deadline watches."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme, _, _ = newurl.partition(":")
        if scheme.lower() not in ("http", "https"):
            raise OSError(f"it is redirected to {newurl[:200]!r}, which is neither http:// nor https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline):
        super().__init__()
        self.deadline = deadline

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(functools.partial(self._connection, _Connection), request)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(functools.partial(self._connection, _TlsConnection), request)

    def _connection(self, kind: type[_Connection], host: str, **options) -> _Connection:
        connection = kind(host, **options)
        connection.deadline = self.deadline
        return connection
