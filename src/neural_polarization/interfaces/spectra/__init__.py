"""Infrared and Raman spectra: harmonic, from second derivatives, and of a dynamics, from autocorrelations."""
