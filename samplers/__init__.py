"""Where structures come from: building, annealing, cropping, stretching, committee-driven MD."""
