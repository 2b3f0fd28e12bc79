"""Selection of the frames to label: window on the force deviation, thinning in time, diversity, fates."""
