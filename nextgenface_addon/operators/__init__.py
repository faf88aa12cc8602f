"""Operators: they check, call and report; the work is done in `jobs` and `scene`."""
