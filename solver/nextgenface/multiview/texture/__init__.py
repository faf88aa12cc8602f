"""Texture optimisation: a sharp texture for any mesh with UVs, from calibrated views (docs/multiview.md).

Data flows `uvmaps` (which texel a pixel shows) -> `exposure` (views are brought to one brightness) ->
`samples` (pixels as rows of a sparse matrix over texels) -> `start` (closed form) -> `optimise` -> `assemble`
(the picture, holes filled, seams dilated); `method` ties them together for commands and jobs.
"""
