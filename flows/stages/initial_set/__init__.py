"""The initial set: its frames, the user's own data, the isolated atoms, and the first data set."""
