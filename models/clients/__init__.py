"""The force field in other simulation programs: LAMMPS, i-PI, OpenMM, TorchSim."""
