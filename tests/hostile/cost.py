"""Run as a process: what reading each of the files named costs in time and in memory, one JSON line for each.

The time is the processor's, not the clock's: what else the machine does is not the picture's fault. Every file is read
in a fork of its own, so that memory which another one left behind hides nothing.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

from engine_grpc.image import ImageError, inspect

_UNIT = 1 if sys.platform == "darwin" else 1024


def _peak() -> int:
    """The most bytes of memory that this process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def _measure(data: bytes) -> dict[str, object]:
    before, began = _peak(), time.process_time()
    try:
        picture = inspect(data)
        told = f"{picture.width} x {picture.height}"
    except ImageError as error:
        told = str(error)
    seconds = time.process_time() - began
    return {"told": told, "ms": seconds * 1000, "bytes": _peak() - before}


def main() -> None:
    """Reads the files of the command line."""
    inspect((Path(__file__).parents[1] / "data" / "phone.jpg").read_bytes())
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            print(json.dumps({"file": Path(name).name, **_measure(data)}), flush=True)
            os._exit(0)


if __name__ == "__main__":
    main()
