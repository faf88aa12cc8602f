"""Reconstruction from calibrated views: texture optimisation, neural deferred shading, Gaussian splats."""
