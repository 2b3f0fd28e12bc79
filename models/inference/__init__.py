"""Inference: committees, compiled graphs, large frames in domains, the ASE calculator."""
