"""One process's run of one campaign: checks before it, the directory, the workers, interrupts."""
