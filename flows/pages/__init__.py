"""What people look at: the terminal's display, the status table, the plots of an iteration."""
