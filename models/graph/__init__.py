"""Graphs of atoms and neighbours, and functions of distance and direction."""
