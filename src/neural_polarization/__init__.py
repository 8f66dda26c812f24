"""Neural Polarization: a moving electron-cloud point for every atom, around any equivariant network."""

__version__ = "0.2.0"
