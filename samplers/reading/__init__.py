"""Structure files, and what they say: elements, charges, spins, cells."""
