"""Which choice of labels teaches most: active selection beside random selection from the same pool."""
