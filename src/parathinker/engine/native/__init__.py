"""The decoder's forward and the choice of tokens in C++, for CPUs."""
