"""The SSE gateway: HTTP and server-sent events towards the clients, gRPC towards the engine; it keeps no state."""
