"""Learning curves of selection strategies: active and random selection of labels from the same pool."""
