"""What is read from a converged calculation: one module per kind of property."""
