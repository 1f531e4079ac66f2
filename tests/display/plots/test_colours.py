import re

import pytest

from happen_nb._display.page import style
from happen_nb._display.plots import scene

PAGES = {"light": "#ffffff", "JupyterLab's dark": "#111111", "VS Code's dark": "#1f1f1f"}
NAMED = {"quiet": scene.QUIET, "number": scene.NUMBER, "string": scene.STRING, "atom": scene.ATOM}
NAMED |= {"error": scene.ERROR, "removed": scene.REMOVED}


def channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def luminance(colour: str) -> float:
    parts = (each / 255 for each in channels(colour))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", [*NAMED.values(), *scene.SERIES_COLOURS])
def test_every_colour_has_contrast_on_light_and_on_dark_pages(colour, page):
    assert contrast(colour, PAGES[page]) >= 3.5


@pytest.mark.parametrize("colour", [*NAMED.values(), *scene.SERIES_COLOURS])
def test_text_inside_marks_can_be_read(colour):
    assert contrast(colour, scene.ON_MARK) >= 4


def test_text_that_is_pointed_out_can_be_read():
    assert contrast(scene.HOVER, scene.ON_HOVER) >= 7


@pytest.mark.parametrize("name", NAMED)
def test_the_colours_are_those_of_the_stylesheet_between_light_and_dark(name):
    found = re.search(rf"--hn-{name}:[^;]*?light-dark\((#\w+), (#\w+)\)", style())
    assert found is not None
    pairs = zip(channels(found[1]), channels(found[2]), channels(NAMED[name]), strict=True)
    assert all(min(light, dark) <= own <= max(light, dark) for light, dark, own in pairs)
