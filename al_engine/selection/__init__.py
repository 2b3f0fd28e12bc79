"""From the force deviations of sampled frames to their fates: window, thinning in time, diversity."""
