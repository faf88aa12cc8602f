"""Gaussian splats: a head with hair, beard and eyes from a few views."""
