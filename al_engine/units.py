"""Physical constants and conversion factors. The units inside al-engine are eV, Å, amu, K and fs."""

EV_IN_AMU_ANG2_PER_FS2 = 1.6021766208e-2 / 1.66053904
"""1 eV in amu Å²/fs²; also the acceleration of 1 amu by a force of 1 eV/Å in Å/fs² (CODATA 2014, as in ASE)."""


BOLTZMANN_EV_PER_KELVIN = 1.38064852e-4 / 1.6021766208
"""Boltzmann constant in eV/K (CODATA 2014, as in ASE)."""

MEV_PER_EV = 1000.0
"""Number of meV in an eV. To convert meV to eV, divide by it: the quotient is the float nearest to the decimal number,
but a product with 0.001 is not."""

FS_PER_PS = 1000.0

GPA_PER_EV_PER_ANG3 = 160.21766208
"""1 eV/Å³ in GPa (CODATA 2014, as in ASE)."""
