"""Labels by ASE calculators: construction of a calculator, its charge and spin, and the folder of its files."""
