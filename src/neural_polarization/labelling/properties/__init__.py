"""Properties of a converged calculation, one module per kind of property."""
