import re

import pytest

from happen_nb._display.page import style

PAIRS = [
    ("text", "back"),
    ("quiet", "back"),
    ("string", "back"),
    ("number", "back"),
    ("atom", "back"),
    ("error", "back"),
    ("added", "back"),
    ("removed", "back"),
    ("added", "added-back"),
    ("removed", "removed-back"),
]
PAGES = {"light": ["#fff", "#ffffff", "#f8f8f8"], "dark": ["#111", "#1f1f1f", "#1e1e1e", "#212121"]}


def palette(theme: str) -> dict[str, str]:
    """The colours that hold where no theme gives any."""
    found = re.findall(r"--hn-([\w-]+):[^;]*?light-dark\((#\w+), (#\w+)\)", style())
    return {name: light if theme == "light" else dark for name, light, dark in found}


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_stylesheet_is_small():
    assert len(style().encode()) <= 4096


def test_nothing_is_set_outside_of_a_display():
    assert ":root" not in style()
    selectors = re.findall(r"^([^\s/}@][^{}]*)\{", style(), re.MULTILINE)
    assert selectors
    assert all(".happen" in part for selector in selectors for part in selector.split(","))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_colours_can_be_read(theme, front, back):
    colours = palette(theme)
    assert contrast(colours[front], colours[back]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["quiet", "string", "number", "atom", "error", "added", "removed"])
def test_our_colours_can_be_read_on_the_backgrounds_of_jupyterlab_and_vs_code(theme, name):
    assert all(contrast(palette(theme)[name], page) >= 4.5 for page in PAGES[theme])


@pytest.mark.parametrize("name", ["text", "back", "line"])
def test_a_theme_comes_first_jupyterlab_then_vs_code_then_plain(name):
    (value,) = re.findall(rf"--hn-{name}: ([^;]+);", style())
    assert re.fullmatch(r"var\(--jp-[\w-]+, var\(--vscode-[\w-]+, light-dark\(#\w+, #\w+\)\)\)", value)


def test_the_theme_of_the_page_decides_and_without_one_the_system_does():
    assert "color-scheme: light dark" in style()
    assert re.search(
        r'\[data-jp-theme-light="false"\] \.happen[^{]*\{ color-scheme: dark', style(), re.DOTALL
    )
    assert re.search(
        r'\[data-jp-theme-light="true"\] \.happen[^{]*\{ color-scheme: light', style(), re.DOTALL
    )


def test_the_style_cannot_end_its_element():
    assert "<" not in style()
