"""One process's run of one campaign: checks before the run, the directory, the workers, interrupts."""
