"""Training data: the schema of an example, and the tasks that make their own."""
