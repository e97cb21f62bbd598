"""An internal service's call: asks the engine about a picture and prints the answer while it is written.

Usage: python examples/ask_grpc.py PICTURE QUESTION [HOST:PORT]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from studyai.v1 import chat_pb2, chat_pb2_grpc


def main(picture: str, prompt: str, target: str = "localhost:5001") -> int:
    """Returns the exit status: 0 for a whole answer, 1 for a failure."""
    question = chat_pb2.ImageQuestion(image=Path(picture).read_bytes(), prompt=prompt, subject="math")
    with grpc.insecure_channel(target) as channel:
        try:
            for message in chat_pb2_grpc.ChatServiceStub(channel).ChatImage(
                chat_pb2.ChatImageRequest(question=question), timeout=120
            ):
                show(message)
        except grpc.RpcError as error:
            print(f"\nfailed: {reason(error)}", file=sys.stderr)
            return 1
    return 0


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
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) in (3, 4) else __doc__)
