"""An internal service's call: asks the engine about a picture and prints the answer while it is written.

Usage: python examples/ask_grpc.py PICTURE QUESTION [HOST:PORT]

Where the engine asks for them it reads SERVICE_TOKEN, AI_ENGINE_TLS_CA_FILE (TLS), and AI_ENGINE_TLS_CERT_FILE and
AI_ENGINE_TLS_KEY_FILE (mutual TLS) from the environment, as the gateway does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from studyai.v1 import chat_pb2, chat_pb2_grpc


def main(picture: str, prompt: str, target: str = "localhost:5001") -> int:
    """Returns the exit status: 0 for a whole answer, 1 for a failure.

    Raises:
        OSError: The picture, or a file for TLS, cannot be read.
    """
    question = chat_pb2.ImageQuestion(image=Path(picture).read_bytes(), prompt=prompt, subject="math")
    token = os.environ.get("SERVICE_TOKEN", "").partition(",")[0]
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with channel_to(target) as channel:
        try:
            for message in chat_pb2_grpc.ChatServiceStub(channel).ChatImage(
                chat_pb2.ChatImageRequest(question=question), metadata=metadata, timeout=120
            ):
                show(message)
        except grpc.RpcError as error:
            print(f"\nfailed: {reason(error)}: {cast('grpc.Call', error).details()}", file=sys.stderr)
            return 1
    return 0


def channel_to(target: str) -> grpc.Channel:
    """Returns a channel: with TLS where the engine's authority is known."""
    ca, key, certificate = (file_of(f"AI_ENGINE_TLS_{name}_FILE") for name in ("CA", "KEY", "CERT"))
    if ca is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, certificate))


def file_of(variable: str) -> bytes | None:
    """Returns what is in the file that a variable names."""
    path = os.environ.get(variable)
    return Path(path).read_bytes() if path else None


def show(message: chat_pb2.ChatImageResponse) -> None:
    """Prints one event."""
    match message.WhichOneof("event"):
        case "started":
            print(f"[{message.started.model}]")
        case "text_delta":
            print(message.text_delta.text, end="", flush=True)
        case "finished":
            print(f"\n[{message.finished.usage.total_tokens} tokens]")


def reason(error: grpc.RpcError) -> str:
    """The stable code to branch on: ErrorInfo's reason, or the status where the call never reached the engine."""
    call = cast("grpc.Call", error)  # which it is, as documented
    status = rpc_status.from_call(call)
    info = ErrorInfo()
    if status and any(detail.Unpack(info) for detail in status.details):
        return str(info.reason)
    return str(call.code().name)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(main(*sys.argv[1:]))
    except OSError as error:
        sys.exit(f"failed: {error}")
