"""The command `studyai`, an extra of the package: what it needs is asked for in a sentence, not in a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command."""
    try:
        from studyai_client.cli.app import app  # noqa: PLC0415 - it needs what may not be there
    except ModuleNotFoundError as error:
        sys.exit(f"studyai: {error.name} is missing: pip install 'studyai-client[cli]'")
    app()
