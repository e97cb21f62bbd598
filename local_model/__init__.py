"""An OpenAI-compatible server on loopback that really looks at the picture: the embedded stand-in for OpenAI.

It is a program of its own (`python -m local_model`) and known to the engine by its base URL alone.
"""
