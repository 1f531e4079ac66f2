"""The displays in JupyterLab, examined by axe in the light and in the dark theme."""

from __future__ import annotations

from axe_playwright_python.base import AXE_SCRIPT

from tests.browser import everything
from tests.browser.conftest import THEMES
from tests.browser.everything import OURS, REMOVED, UNFOLDED, WHOLE, moments, show
from tests.browser.test_live_reply import save

TEXTS = ["a note", "the pens are gone: ask for 12 more, or wait until Monday"]
DASHBOARD = [".hn-dash"]
ALL = {}
CONTRAST = {"runOnly": ["color-contrast"]}  # the only rule that depends on the theme
ALL_OTHERS = {"rules": {"color-contrast": {"enabled": False}}}
NOT_OURS = [
    ["aria-input-field-name", ".noUi-handle"],  # ipywidgets gives no slider a name, whatever its description
]
LOOK = """async ([include, notOurs, options]) => {
    options = {...options, resultTypes: ["violations", "passes"], elementRef: true, selectors: false};
    const {violations, passes} = await axe.run({include}, options);
    const isOurs = (id, element) => !notOurs.some(([rule, those]) => rule === id && element.matches(those));
    return {
        found: violations.flatMap(({id, impact, nodes}) => nodes
            .filter(({element}) => isOurs(id, element))
            .map(({html, failureSummary}) => [impact, `${id} (${impact}): ${html} ${failureSummary}`])),
        contrasts: passes.find(({id}) => id === "color-contrast")?.nodes.length ?? 0,
    };
}"""
# A contrast takes axe milliseconds, so of texts that are styled alike it looks at the first few only.
ALIKE = """ours => {
    const kinds = new Map(), alike = 4;
    const background = element => {
        const colour = element && getComputedStyle(element).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? background(element.parentElement) : colour;
    };
    for (const element of document.querySelectorAll(ours.flatMap(each => [each, `${each} *`]).join())) {
        if (![...element.childNodes].some(({nodeType, data}) => nodeType === 3 && data.trim())) continue;
        const {color, fill, opacity, fontSize, fontWeight} = getComputedStyle(element);
        const looks = [color, fill, opacity, fontSize, fontWeight, background(element)];
        const kind = [element.tagName, element.className, element.parentElement.className, ...looks].join();
        kinds.set(kind, [...kinds.get(kind) ?? [], element].slice(0, alike));
    }
    return [...kinds.values()].flat();
}"""
# axe does not look at the texts of pictures.
FAINT = """ours => {
    const parsed = colour => colour.match(/[\\d.]+/g).map(Number);
    const over = ([r, g, b, a = 1], ground) => [r, g, b].map((part, at) => part * a + ground[at] * (1 - a));
    const luminance = colour => {
        const [r, g, b] = colour.map(part => part / 255).map(
            part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
        );
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => element
        ? over(parsed(getComputedStyle(element).backgroundColor), ground(element.parentElement))
        : [255, 255, 255];
    const read = ours.flatMap(each => [...document.querySelectorAll(`${each} svg :is(text, tspan)`)]).filter(
        ({childNodes}) => [...childNodes].some(({nodeType, data}) => nodeType === 3 && data.trim())
    );
    const contrast = element => {
        const behind = ground(element), colour = over(parsed(getComputedStyle(element).fill), behind);
        const [dark, light] = [behind, colour].map(luminance).sort((one, other) => one - other);
        return (light + 0.05) / (dark + 0.05);
    };
    const found = read.map(element => [contrast(element), element.textContent]);
    return {looked: read.length, faint: found.filter(([contrast]) => contrast < 4.5)};
}"""
# The body has no height and hides what overflows, so that axe would take all that is in it for hidden; nor
# does it look at what has been scrolled out of sight at the top.
IN_SIGHT = "body, #main { overflow: visible !important }"


def serious(page, include, contrasts=0, **options):
    """Return the serious findings of axe; it must have looked at so many texts at least."""
    looked = page.evaluate(LOOK, [include, NOT_OURS, options])
    assert looked["contrasts"] >= contrasts
    return [told for impact, told in looked["found"] if impact in {"serious", "critical"}]


def low_contrasts(page, contrasts):
    """Return the texts with too little contrast, in the theme that is shown."""
    texts = page.evaluate_handle(ALIKE, OURS)
    return serious(page, texts, contrasts, **CONTRAST)


def faint_texts_of_pictures(page, texts):
    """Return the texts of pictures with too little contrast, in the theme that is shown."""
    found = page.evaluate(FAINT, OURS)
    assert found["looked"] >= texts
    return found["faint"]


def test_axe_finds_nothing_serious_in_any_theme(lab, tab):
    cells = everything.cells(TEXTS)
    save(lab, "accessibility.ipynb", cells)
    tab.open("accessibility.ipynb")
    page = tab.page
    page.evaluate(WHOLE)
    dashboard = show(tab, cells)
    page.evaluate(AXE_SCRIPT)
    style = page.add_style_tag(content=IN_SIGHT)
    page.evaluate(UNFOLDED)
    found = serious(page, OURS, **ALL_OTHERS)
    for theme in THEMES:
        tab.show_theme(theme)
        page.evaluate(UNFOLDED)
        found += low_contrasts(page, contrasts=120)
        found += faint_texts_of_pictures(page, texts=100)
    assert page.locator(", ".join(OURS)).count() > 60
    page.evaluate(REMOVED, ".jp-Notebook .jp-Cell:not(:has(.hn-dash))")
    for theme, rules in (("dark", ALL), ("light", CONTRAST)):
        tab.show_theme(theme)
        for moment in moments(dashboard):
            found += [f"{moment}: {each}" for each in serious(page, DASHBOARD, contrasts=20, **rules)]
    style.evaluate("style => style.remove()")
    assert found == []
    assert tab.off_site == []
