"""Molecules with labels: reading them, batching them, splitting them. `open.open_dataset` is the way in."""
