"""The core that every other part speaks: config, frames, store, selection, verdict."""
