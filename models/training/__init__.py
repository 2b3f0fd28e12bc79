"""Training of members: data set, loss, optimizer, checkpoints."""
