"""Audit of a campaign directory: checks hashes, links and counts of its parts, and repairs what can be rebuilt."""
