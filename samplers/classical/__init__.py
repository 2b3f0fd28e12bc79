"""Classical force fields, and the anneals with them that give the frames of the initial set."""
