"""Elements that are changed only where something has changed: what does not move is not sent."""

from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Text(TextElement):
    """A piece of text in an HTML element of its own."""

    def __init__(self, tag: str, text: str = "", classes: str = "") -> None:
        super().__init__(tag=tag, text=text)
        self.classes(classes)

    def show(self, text: str) -> None:
        """Say something else."""
        if self.text != text:
            self.text = text


def box(tag: str, classes: str = "", **attributes: str) -> ui.element:
    """Return an HTML element; `aria_label` stands for `aria-label`."""
    element = ui.element(tag).classes(classes)
    describe(element, **attributes)
    return element


def describe(element: ui.element, **attributes: str) -> None:
    """Give an element attributes."""
    for name, value in attributes.items():
        put(element, name.replace("_", "-"), value)


def put(element: ui.element, name: str, value: Any) -> None:  # noqa: ANN401 - a property is of any type
    """Set a property, where it is another one."""
    if element.props.get(name) != value:
        element.props[name] = value
        element.update()


def mark(element: ui.element, **classes: bool) -> None:
    """Let an element have classes or not."""
    add = [name for name, wanted in classes.items() if wanted and name not in element.classes]
    remove = [name for name, wanted in classes.items() if not wanted and name in element.classes]
    if add or remove:
        element.classes(add=" ".join(add), remove=" ".join(remove))


def place(element: ui.element, **styles: str) -> None:
    """Give an element styles; `__thick` stands for the variable `--thick`."""
    for name, value in styles.items():
        key = name.replace("_", "-")
        if element.style.get(key) != value:
            element.style(f"{key}: {value}")


def card(title: str, classes: str = "") -> ui.element:
    """Return a region with a title."""
    region = box("section", f"card {classes}", aria_label=title)
    with region:
        Text("h2", title)
    return region
