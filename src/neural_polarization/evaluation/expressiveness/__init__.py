"""What networks can tell apart, with polarization and without: cases, measurement, report."""
