"""Training: configuration, losses, the Lightning module and everything that makes a run resumable."""
