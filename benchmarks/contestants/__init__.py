"""Workers that evaluate and train one model each, every one in the environment of its package."""
