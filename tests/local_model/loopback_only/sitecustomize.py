"""Python imports this at start where its folder is on the path: the process may then use loopback alone.

Every name it looks up and every address it connects to is checked before the system is asked. What is refused
is also written to the file that `LOOPBACK_ONLY_LOG` names, since a library may hide the refusal.
"""

import ipaddress
import os
import sys
from pathlib import Path

_LOG = Path(os.environ["LOOPBACK_ONLY_LOG"])


def _check(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments
    else:
        return
    host = address[0] if isinstance(address, tuple) else address
    try:
        allowed = ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        with _LOG.open("a") as log:
            log.write(f"{event} {host}\n")
        raise PermissionError(f"{event}: only loopback is allowed")


sys.addaudithook(_check)
