"""Evaluation: errors in customary units, parity plots, and fair comparisons of variants."""
