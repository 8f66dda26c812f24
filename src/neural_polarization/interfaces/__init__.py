"""Interfaces: predictions from files and SMILES, and an ASE calculator."""
