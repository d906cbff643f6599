"""Weights and layers: the thought embedding, the lean decoder, reading checkpoints."""
