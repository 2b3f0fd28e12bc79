"""Worker processes that label, so that a crash, a hang or a NaN costs one frame; journal and cache of their labels."""
