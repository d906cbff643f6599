"""Training: examples to graphs to batches, structured attention, recipes on transformers' Trainer."""
