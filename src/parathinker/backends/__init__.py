"""The engine's job done by other engines, behind the same protocol."""
