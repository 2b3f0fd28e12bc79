"""The stages of a campaign: for each stage its inputs, its key, its job, and the part that it writes."""
