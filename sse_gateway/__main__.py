"""The gateway's composition root: settings, logging, wiring, run."""

from __future__ import annotations

import os

# gRPC's core writes to standard error in a format of its own, and what matters of it is told by exceptions too. It
# reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# A message wakes one thread of gRPC's client and not four: it reads where it is waited for, as the engine's server.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")

import gc
import sys

from pydantic import ValidationError

from sse_gateway.app import create_app
from sse_gateway.engine import EngineClient
from sse_gateway.lifecycle import Lifecycle
from sse_gateway.log import configure_logging
from sse_gateway.server import GatewayServer, server_config
from sse_gateway.settings import GatewaySettings, faults
from sse_gateway.tracing import configure_tracing


def main() -> None:
    """Runs the gateway until it is told to stop.

    Exits with 2 where a setting is wrong, and with 3 where it cannot listen.
    """
    try:
        settings = GatewaySettings()
    except (ValidationError, UnicodeDecodeError) as error:
        sys.stderr.writelines(f"sse-gateway: {fault}\n" for fault in faults(error))
        sys.exit(2)
    configure_logging(settings.log_level, settings.log_format)
    send_last_spans = configure_tracing(settings.otel_exporter_otlp_endpoint)
    lifecycle = Lifecycle()
    engine = EngineClient(settings.engine_targets, settings.engine_access)
    app = create_app(settings, engine, lifecycle)
    # What is there now stays to the end. Every full collection looked through it for 60 ms; all streams waited.
    gc.collect()
    gc.freeze()
    # Nor is there much for a full collection to find: cycles are young when they die.
    gc.set_threshold(700, 10, 100)
    try:
        GatewayServer(server_config(app, settings), lifecycle, settings.drain_seconds, engine.drain).run()
    except KeyboardInterrupt:  # Ctrl-C before it listens; after that the signal is the server's
        sys.exit(130)
    finally:
        send_last_spans()


if __name__ == "__main__":
    main()
