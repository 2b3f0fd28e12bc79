"""Labels: their chunks, ahead of the selection too, their checks and their level of theory."""
