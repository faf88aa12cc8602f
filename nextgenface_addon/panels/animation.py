"""Expressions and recordings."""

from __future__ import annotations

import bpy

from ..scene.photo_views import active_head
from ..scene.shape_keys import photo_expressions
from .base import SidebarPanel

MOST_ROWS = 12


class NEXTGENFACE_PT_animation(SidebarPanel, bpy.types.Panel):
    """The head's expressions as shape keys, and recordings onto them."""

    bl_idname = "NEXTGENFACE_PT_animation"
    bl_label = "Animation"
    bl_order = 30
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        head = active_head(context)
        return head is not None and head.data.shape_keys is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        head = active_head(context)
        if head is None or head.data.shape_keys is None:
            return
        keys = head.data.shape_keys
        layout.operator("nextgenface.show_expression", text="Neutral", icon="X").photo = -1
        column = layout.column(align=True)
        for expression in photo_expressions(head)[:MOST_ROWS]:
            row = column.row(align=True)
            _button(row, expression.photo, "KEY", expression.key, _is_on(keys, expression.key))
            if expression.residual:
                _button(row, expression.photo, "ARKIT", "ARKit", _is_on(keys, expression.residual))
        layout.operator("nextgenface.load_take", icon="IMPORT")
        animation = keys.animation_data
        if animation is not None and animation.action is not None:
            layout.label(text=animation.action.name, icon="ACTION", translate=False)


def _button(row: bpy.types.UILayout, photo: int, form: str, text: str, on: bool) -> None:
    button = row.operator("nextgenface.show_expression", text=text, depress=on, translate=form != "KEY")
    button.photo, button.form = photo, form


def _is_on(keys: bpy.types.Key, name: str) -> bool:
    block = keys.key_blocks.get(name)
    return block is not None and block.value > 0.0


CLASSES = (NEXTGENFACE_PT_animation,)
