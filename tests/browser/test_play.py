"""The play button of the demo, which advances the clock of its space."""

from __future__ import annotations

import re

from playwright.sync_api import expect

MINUTE = 60_000


def test_the_days_of_the_demo_pass_while_its_play_button_is_pressed(tab):
    tab.open("demo.ipynb")
    tab.run_all()
    books = tab.page.locator(".hn-dash").get_by_role("treeitem").filter(has_text="books {day:")
    expect(books).to_contain_text("day: 30", timeout=MINUTE)
    play = tab.page.locator(".widget-play").get_by_role("button").first
    play.click()
    later = re.compile(r"day: (3[3-9]|[4-9]\d|\d{3})")  # not each day is drawn
    expect(books).to_contain_text(later, timeout=MINUTE)
    play.click()
    tab.shoot("demo-playing", themes=["light", "dark"])
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []
