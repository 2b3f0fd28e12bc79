"""Initial and test frames: by a classical field, by the reference method, by bond stretching, or from a file."""
