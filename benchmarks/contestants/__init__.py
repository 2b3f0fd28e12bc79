"""Worker processes that evaluate and train a model, each in the environment of its package."""
