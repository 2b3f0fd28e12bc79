"""Classical force fields, and the anneals by them that give initial frames."""
