"""Evaluation of a campaign's models (`al-engine evaluate`), on labels and trajectories that no training has seen."""
