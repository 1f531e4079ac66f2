"""The page of the documentation that plays a recording while Binder starts the demo."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ROOT

BUILD = "https://mybinder.org/build/gh/happen-nb/happen_nb/HEAD"
SERVER = "https://hub.example.org/user/demo"


@pytest.fixture
def page(chromium, tmp_path):
    """The page, as HTML without the theme of the documentation."""
    (markup,) = re.findall(r"```{raw} html\n(.*?)```", (ROOT / "docs/demo.md").read_text("utf-8"), re.DOTALL)
    shutil.copytree(ROOT / "docs/_static", tmp_path / "_static")
    (tmp_path / "demo.html").write_text(f"<!doctype html>{markup}", encoding="utf-8")
    tab = chromium.new_page()
    tab.place = (tmp_path / "demo.html").as_uri()
    yield tab
    tab.close()


def answer(page, *phases):
    """Let Binder go through these phases, and count how often it is asked."""
    asked = []
    lines = [f"data: {json.dumps({'phase': phase, 'message': '', **more})}\n\n" for phase, more in phases]
    headers = {"Content-Type": "text/event-stream", "Access-Control-Allow-Origin": "*"}

    def fulfill(route):
        asked.append(route.request.url)
        route.fulfill(headers=headers, body="".join(["retry: 10\n\n", *lines]))

    page.route("https://mybinder.org/**", fulfill)
    return asked


def test_the_recording_plays_while_the_server_starts_and_the_link_then_opens_the_demo(page):
    ready = {"url": SERVER, "token": "secret"}
    asked = answer(page, ("building", {}), ("launching", {}), ("ready", ready))
    page.goto(page.place)
    recording = page.frame_locator("iframe.recording")
    expect(recording.locator("#play")).to_contain_text("Pause")
    link = page.get_by_role("link", name="Start the live demo")
    assert link.get_attribute("href").startswith("https://mybinder.org/v2/gh/happen-nb/happen_nb/HEAD?")
    link.click()
    opened = page.get_by_role("link", name="Open the live demo")
    expect(opened).to_be_focused()
    expect(page.get_by_role("status")).to_have_text("The server is running.")
    assert opened.get_attribute("href") == f"{SERVER}/lab/tree/notebooks/demo.ipynb?token=secret"
    assert asked == [BUILD]


@pytest.mark.parametrize(
    ("phases", "words"),
    [([("failed", {})], "Binder could not start the demo."), ([], "Binder does not answer here.")],
)
def test_a_failed_start_leads_to_binders_own_page_and_is_not_repeated(page, phases, words):
    asked = answer(page, *phases)
    page.goto(f"{page.place}#start")
    expect(page.get_by_role("status")).to_have_text(words)
    expect(page.get_by_role("link", name="Try it on Binder's page")).to_be_visible()
    page.wait_for_timeout(100)  # a browser would connect again after 10 ms
    assert asked == [BUILD]
