"""Labels by ASE calculators: how each is made, is told charge and spin, and where its files go."""
