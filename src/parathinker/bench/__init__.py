"""How fast the native engine is on this machine, and how far from the machine's limits."""
