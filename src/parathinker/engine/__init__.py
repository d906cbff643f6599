"""The native engine: exact parallel thinking on PyTorch, on any of its devices."""
