"""The AI engine: a question about a photographed page in, the answer out as it is written, over gRPC."""
