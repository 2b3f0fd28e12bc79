"""Reading of structure files: elements, positions, cells, charges and spins."""
