"""A mesh from calibrated views: neural deferred shading (Worchel et al., CVPR 2022), from its description."""
