"""What holds for every test."""

from __future__ import annotations

import signal

# A script that starts the tests in its background has them ignore Ctrl-C, and with them whatever they start and press
# it on.
signal.signal(signal.SIGINT, signal.default_int_handler)
