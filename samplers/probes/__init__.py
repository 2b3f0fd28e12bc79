"""Tests of a trained committee: scans of bonds, and long trajectories."""
