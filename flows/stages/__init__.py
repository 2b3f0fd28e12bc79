"""The stages of a campaign: what each reads, its key, the job that computes it, and the part it writes."""
