"""What a campaign's models are worth: `al-engine evaluate`, on labels and trajectories that no training has seen."""
