"""Whole campaigns side by side that differ in one option: what it costs and what it brings."""
