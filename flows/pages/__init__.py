"""Output for people: the display on the terminal, the status table, the plots of an iteration."""
