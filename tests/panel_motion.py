"""How the side panel is opened and scrolled by its benchmark and its test in a browser."""

from __future__ import annotations

WHEEL = 300
"""Pixels a frame: a wheel that is turned briskly."""

TAB = '.jp-SideBar [data-id="aiaas-panel"]'

# From the click on the panel's tab until the first rows of both lists are drawn, in milliseconds.
OPEN = f"""
async () => {{
    const tab = document.querySelector('{TAB}');
    const drawn = () =>
        document.querySelector('[aria-label="Runs"] .jp-aiaas-row') &&
        document.querySelector('[aria-label="Datasets"] .jp-aiaas-row');
    const began = performance.now();
    for (const type of ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click']) {{
        const at = tab.getBoundingClientRect();
        tab.dispatchEvent(new PointerEvent(type, {{
            bubbles: true, button: 0, clientX: at.x + 5, clientY: at.y + 5
        }}));
    }}
    while (!drawn()) {{
        await new Promise(requestAnimationFrame);
    }}
    return performance.now() - began;
}}
"""

# A turn of the wheel in a list, and when its frame is drawn.
TURN = """
(box, by) => {
    box.scrollTop += by;
    return new Promise(requestAnimationFrame);
}
"""
