"""What the system does for the gateway's connections: notice who vanished, and queue little for who reads slowly."""

from __future__ import annotations

import socket
from typing import Any

UNSENT_BYTES = 16 * 1024
"""How much may wait to be sent before the writer is held up, in the system and again in this process."""
_VANISHED_MILLISECONDS = 25_000
"""How long sent bytes may stay unacknowledged. With the heartbeat a vanished client is gone within 45 s."""
_TCP_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    # For connections on which nothing is sent: a fallback's client that waits.
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", _VANISHED_MILLISECONDS),
    # The system would queue megabytes of old events for a slow reader: it gets the newest instead, as one.
    (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT_BYTES),
)


def set_options(listener: Any) -> None:
    """Sets what this system knows of the options on a listening socket: its connections are born with them."""
    for level, name, value in _TCP_OPTIONS:
        if hasattr(socket, name):
            listener.setsockopt(level, getattr(socket, name), value)
