"""Expressiveness: which structures networks can tell apart, with and without polarization."""
