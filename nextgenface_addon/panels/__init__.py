"""The sidebar of the 3D View, tab NextGenFace, one file per panel. `draw()` only reads what is in memory."""
