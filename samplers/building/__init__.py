"""Construction of the simulated system from a molecule: perception of ions and bonds, packing of clusters and boxes."""
