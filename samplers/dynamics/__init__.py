"""Langevin dynamics of replicas driven by a committee: integrator, barostat, wall, limits, trajectories."""
