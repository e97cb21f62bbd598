"""A proxy that breaks connections, as networks do: after so many bytes of a reply, or in whatever a test says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Rule = Callable[[int, bytes], int | None]
    """Of a connection's number (from 0) and the first bytes of its reply: how many to let through, None for all."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """A way to a port of this machine, at a port of its own; new connections may be sent to another."""

    def __init__(self, to: int, rule: Rule) -> None:
        self.to = to
        self._rule = rule
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._served = threading.Event()
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])

    def serve(self) -> None:
        """Takes connections until it is closed."""
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                self._served.set()
                return
            number, self.connections = self.connections, self.connections + 1
            self._start(self._pass, client, number)

    def cut(self) -> None:
        """Resets what is open now."""
        with self._lock:
            for end in self._open:
                _reset(end)

    def close(self) -> None:
        """Ends everything."""
        # close() alone does not wake accept().
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._served.wait(5)  # a connection may have been taken just now
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        self._threads.append(thread)  # not before: whoever closes joins them

    def _pass(self, client: socket.socket, number: int) -> None:
        try:
            service = socket.create_connection(("127.0.0.1", self.to), 5)
            service.settimeout(None)  # once it is there it may be silent
        except OSError:
            _reset(client)
            client.close()
            return
        with self._lock:
            self._open |= {client, service}
        forth = threading.Thread(target=_copy, args=(client, service))
        forth.start()
        self._copy_back(service, client, number)
        forth.join(5)
        with self._lock:
            self._open -= {client, service}
        client.close()
        service.close()

    def _copy_back(self, service: socket.socket, client: socket.socket, number: int) -> None:
        allowed: int | None = None
        passed = 0
        with contextlib.suppress(OSError):
            while data := service.recv(65_536):
                if passed == 0:
                    allowed = self._rule(number, data)
                if allowed is not None and passed + len(data) >= allowed:
                    client.sendall(data[: allowed - passed])
                    break
                client.sendall(data)
                passed += len(data)
        _reset(client)
        _reset(service)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _reset(sink)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running_proxy(to: int, rule: Rule = lambda _number, _first: None) -> Iterator[Proxy]:
    """A proxy for the time of the context."""
    proxy = Proxy(to, rule)
    thread = threading.Thread(target=proxy.serve)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(5)
