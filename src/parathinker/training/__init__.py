"""Training: graphs to batches, structured attention, recipes on transformers' Trainer."""
