"""From a results folder to a Blender scene: one module per kind of datablock.

`results_folder` reads and checks the folder without bpy; `importer.import_result` puts everything together.
"""
