"""What the panels of the sidebar share. No bpy in here."""

from __future__ import annotations


class SidebarPanel:
    """Puts a panel into the 3D View's sidebar, tab NextGenFace. `bl_order` sorts: photos and run 0, settings
    10, result 20, animation 30.
    """

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "NextGenFace"
