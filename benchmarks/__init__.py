"""Measurements: ratios taken side by side, in one run, on one machine. No test depends on them."""
