"""Initial set and test set: frames from a classical force field, from the reference method, or from the user's file."""
