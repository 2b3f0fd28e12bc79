"""From a molecule to the simulated system: perception of ions and bonds, packing of clusters and boxes."""
