"""The settings of every command: those of the environment, and of `.env` in this folder where that leaves them open."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from dotenv import dotenv_values

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = re.compile(r"STUDYAI_\w+|AI_ENGINE_\w+|SERVICE_TOKEN|PORT|ENGINE_PORT")
"""What commands read; the rest of the file is the services', and not for the libraries here to find."""


_FOR_THE_TOKEN = {"STUDYAI_TOKEN": "STUDYAI_URL", "SERVICE_TOKEN": "AI_ENGINE_URL"}
"""Where each token goes."""


def settings() -> dict[str, str]:
    """Returns them as the services read them: the environment wins over the file, and empty counts as unset.

    But a token of the environment goes to no address of the file's, which may have come with a folder from anywhere.

    Raises:
        UnicodeDecodeError: The file is not UTF-8.
        OSError: It cannot be read.
    """
    file = dotenv_values(".env")
    for address in _withheld(file):
        del file[address]
    return {name: value for source in (file, os.environ) for name, value in source.items() if value}


def withheld() -> list[str]:
    """Returns the addresses of the file that are left out, since their tokens are the environment's; see `settings`."""
    return _withheld(dotenv_values(".env"))


def _withheld(file: Mapping[str, str | None]) -> list[str]:
    return [
        address
        for token, address in _FOR_THE_TOKEN.items()
        if file.get(address)
        and not os.environ.get(address)
        and (os.environ.get(token) or file.get(token)) != file.get(token)
    ]


def complete() -> None:
    """Puts into the environment what it leaves open and the file says; see `settings`."""
    os.environ.update({name: value for name, value in settings().items() if _OURS.fullmatch(name)})


def default_gateway() -> str:
    """Returns where a gateway with these settings listens on this machine."""
    return f"http://127.0.0.1:{os.environ.get('PORT') or 3000}"


def default_engine() -> str:
    """Returns where an engine with these settings listens on this machine."""
    return f"127.0.0.1:{os.environ.get('ENGINE_PORT') or 5001}"
