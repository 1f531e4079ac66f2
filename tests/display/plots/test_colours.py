import re
from itertools import combinations
from math import dist

import pytest

from happen_nb._display import resource
from happen_nb._display.page import style
from happen_nb._display.plots import COLOURS, PERSON, STYLE, scene
from happen_nb._widgets.following import styles

PAGES = {"light": "#ffffff", "JupyterLab's dark": "#111111", "VS Code's dark": "#1f1f1f"}
PAPER = {"light": "#ffffff", "dark": "#16181b"}
NAMED = {"quiet": scene.QUIET, "number": scene.NUMBER}


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


@pytest.mark.parametrize(("theme", "number"), [("light", 0), ("dark", 1)])
def test_the_colours_of_a_page_that_a_picture_knows_stand_out_from_it(theme, number):
    for pair in scene.BY_THEME.values():
        assert contrast(pair[number], PAPER[theme]) >= 4.5


@pytest.mark.parametrize(("theme", "number"), [("light", 0), ("dark", 1)])
def test_text_inside_bands_can_be_read(theme, number):
    text = scene.BY_THEME[scene.ON_BAND][number]
    for pair in scene.BY_THEME.values():
        assert contrast(text, mixed(pair[number], PAPER[theme], scene.BAND_TINT)) >= 4.5


def mixed(colour: str, ground: str, share: float) -> str:
    parts = zip(channels(colour), channels(ground), strict=True)
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in parts)


def test_each_colour_lies_between_those_of_light_and_of_dark_pages():
    for colour, pair in scene.BY_THEME.items():
        dark, light = sorted(map(luminance, pair))
        assert dark <= luminance(colour) <= light


def test_text_that_is_pointed_out_can_be_read():
    assert contrast(scene.HOVER, scene.ON_HOVER) >= 7


@pytest.mark.parametrize("name", NAMED)
def test_the_colours_are_those_of_the_stylesheet_between_light_and_dark(name):
    found = re.search(rf"--hn-{name}:[^;]*?light-dark\((#\w+), (#\w+)\)", style())
    assert found is not None
    pairs = zip(channels(found[1]), channels(found[2]), channels(NAMED[name]), strict=True)
    assert all(min(light, dark) <= own <= max(light, dark) for light, dark, own in pairs)


# -- colours of nodes --------------------------------------------------------------------------------

# What each of the three kinds of colour-blindness makes of linear red, green and blue (Machado et al., 2009).
BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.95047, 1.0, 1.08883)


def linear(colour: str) -> list[float]:
    parts = (each / 255 for each in channels(colour))
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(colour: str, blindness: str) -> list[float]:
    seen = [max(0.0, min(1.0, c)) for c in times(BLINDNESS[blindness], linear(colour))]
    x, y, z = (
        part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116
        for part in (value / white for value, white in zip(times(TO_XYZ, seen), WHITE, strict=True))
    )
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


PALETTES = {theme: [each[number] for each in COLOURS] for number, theme in enumerate(PAPER)}
PALETTES["plots"] = list(scene.SERIES_COLOURS)


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_each_two_colours_of_nodes_and_of_series_differ_also_for_colour_blind_readers(palette, blindness):
    for one, other in combinations(PALETTES[palette], 2):
        assert dist(lab(one, blindness), lab(other, blindness)) >= 15, (one, other)


@pytest.mark.parametrize(("theme", "number"), [("light", 0), ("dark", 1)])
def test_colours_of_nodes_and_texts_stand_out_from_their_paper(theme, number):
    for each in (*COLOURS, PERSON, *texts_of_diagrams()):
        assert contrast(each[number], PAPER[theme]) >= 4.5, each


def texts_of_diagrams():
    """The colours of texts and of failures, for light and for dark pages."""
    found = re.findall(r"--(?:soft|bad|accent):light-dark\((#\w{6}),(#\w{6})\)", STYLE)
    assert len(found) == 3
    return found


def test_pages_and_recordings_have_the_same_colours():
    recording = resource("_display/recording/recording.css")
    for light, dark in COLOURS:
        assert f"light-dark({light},{dark})" in styles()
        assert light in recording
        assert dark in recording
