"""Whole campaigns that differ in a single option: cost and benefit of the option."""
