"""Finding out why a model answers as it does: tunnel vision, budgets, ablations, diversity.

Each diagnosis is a module with a pure function from what was measured to a table, and ``run``,
which measures. What a model writes is sampled once and kept, as in an evaluation.
"""
