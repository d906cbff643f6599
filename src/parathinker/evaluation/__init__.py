"""Measuring: how good the answers are, against other ways to spend the same tokens."""
