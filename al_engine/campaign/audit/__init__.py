"""Whether a campaign directory is sound: hashes, links and counts of its parts; repair of what can be rebuilt."""
