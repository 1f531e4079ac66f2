"""The static image that each figure carries, for where plotly's script is not."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import numpy as np
import plotly.io
import pytest
from IPython.core.formatters import DisplayFormatter
from plotly import graph_objects as go

from happen_nb._display.plots import plotly_figure
from happen_nb._display.plots.history_plot import PlottedCommits, history_plot
from happen_nb._display.plots.plotly_figure import PLOTLY, static
from happen_nb._display.plots.scene import FONT

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {SVG + name for name in ("svg", "style", "g", "path", "text", "tspan")}
LEAST_CHARACTER = 6.5  # pixels
HOSTILE = '<img src=x onerror="boom()">&amp;</text><script>boom()</script>$x^2$'


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 0, "status": "new"})


@pytest.fixture(autouse=True)
def in_a_notebook(monkeypatch):
    """Figures answer as they do where a notebook asks them."""
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")


def picture(figure):
    """The static image of a figure as its mime bundle has it, parsed."""
    image = figure._repr_mimebundle_()["text/html"]
    packed = re.search(r'<img src="data:image/svg\+xml;base64,([\w+/=]+)" alt="[^"]+"></div>$', image)[1]
    return ET.fromstring(base64.b64decode(packed))


def texts(drawn):
    return ["".join(text.itertext()).strip() for text in drawn.iter(SVG + "text")]


def curves(drawn, width="2"):
    """The descriptions of the lines of this width."""
    return [path.get("d") for path in drawn.iter(SVG + "path") if path.get("stroke-width") == width]


def test_numbers_are_drawn_as_steps_and_texts_as_bands(orders):
    for number in range(1, 4):
        orders.state.set({"n": number, "status": "paid" if number > 1 else "new"})
    drawn = picture(orders.state.history().plot(x="revision"))
    assert {"n", "status", "new", "paid"} <= set(texts(drawn))
    [steps] = curves(drawn)
    assert steps.count("v-") == 3
    assert "l" not in steps


def test_times_that_occurred_are_labelled(space, orders):
    @orders.on("reading")
    def note(event):
        orders.state.set({"n": event.payload})

    first = datetime(2013, 2, 7, tzinfo=UTC)
    rows = [{"n": number, "at": first + timedelta(days=number)} for number in range(4)]
    space.replay(({"n": row["n"], "at": row["at"]} for row in rows), type="n", time="at").wait()
    assert space.events("n")[0].occurred == first
    for row in rows:
        space.broadcast("reading", row["n"], occurred=row["at"]).settle()
    labels = texts(picture(orders.state.history().plot("n", x="occurred")))
    assert "8 Feb 2013" in " ".join(labels)


def test_the_first_time_is_not_cut_off():
    times = [datetime(2026, 3, 14, 12, 0, second, 123_000, tzinfo=UTC) for second in (0, 9)]
    commits = PlottedCommits("orders", [1, 2], times, times, "time, UTC")
    drawn = picture(history_plot(commits, {"n": [0, 9]}))
    first = next(drawn.iter(SVG + "tspan"))
    assert first.text == "12:00:00.123"
    assert float(first.get("x")) >= len(first.text) * LEAST_CHARACTER / 2


def test_the_title_of_an_axis_is_below_all_its_labels():
    times = [datetime(2026, 3, 14, tzinfo=UTC) + timedelta(hours=hours) for hours in range(60)]
    commits = PlottedCommits("orders", range(60), times, times, "time, UTC")
    drawn = picture(history_plot(commits, {"n": list(range(60))}))
    (date,) = [each for each in drawn.iter(SVG + "tspan") if each.text == "15 Mar 2026"]
    (title,) = [each for each in drawn.iter(SVG + "text") if each.text == "time, UTC"]
    assert float(title.get("y")) - float(date.get("y")) >= FONT
    assert float(title.get("y")) < float(drawn.get("height"))


def test_a_place_is_where_plotly_has_it(orders):
    """Lines begin and end at the values that plotly has, on the scale of the axis."""
    for number in (10, 40, 20):
        orders.state.set({"n": number, "status": "new"})
    figure = orders.state.history().plot("n", x="revision")
    drawn = picture(figure)
    [steps] = curves(drawn)
    heights = [float(each) for each in re.findall(r"v(-?[\d.]+)", steps)]
    assert heights[0] < 0, "a larger number is higher up"
    assert heights == pytest.approx([heights[0], heights[0] * 3, heights[0] * -2], abs=0.3)


def test_text_of_users_never_becomes_markup_of_a_picture(space):
    node = space.create_node("orders")
    node.state.set({HOSTILE: 1, "text": HOSTILE})
    for figure in (node.state.history().plot(), node.state.history().plot("text", x="revision")):
        drawn = picture(figure)
        assert {each.tag for each in drawn.iter()} <= DRAWN
        assert not [name for each in drawn.iter() for name in each.attrib if name.startswith("on")]
        assert "<img src=x" in " ".join(texts(drawn))


def test_a_picture_that_is_too_large_is_replaced_by_a_message(orders, monkeypatch):
    monkeypatch.setattr(plotly_figure, "MAX_SVG", 500)
    orders.state.set({"n": 5})
    figure = orders.state.history().plot("n")
    assert any("too much for a static image" in text for text in texts(picture(figure)))


CHANGES = {
    "title": lambda figure: figure.update_layout(title="Mine"),
    "axis": lambda figure: figure.update_yaxes(range=[0, 100]),
    "trace": lambda figure: figure.add_pie(values=[1, 2]),
    "arrays": lambda figure: figure.add_scatter(x=np.arange(2), y=np.arange(2)),
    "values": lambda figure: figure.data[0].update(y=np.arange(2)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_figure_has_its_title_and_a_message_instead_of_a_picture(orders, change):
    orders.state.set({"n": 5})
    figure = orders.state.history().plot("n", x="revision")
    change(figure)
    message, title = texts(picture(figure))
    assert title == figure.layout.title.text.replace("<b>", "").replace("</b>", "")
    assert "a figure that was changed" in message
    assert PLOTLY in figure._repr_mimebundle_()


def test_the_static_form_of_another_figure_is_its_title():
    shown = static(go.Figure(go.Scatter(y=[1, 2]), {"title": {"text": "<b>Mine</b>"}}))
    assert shown["text/plain"].startswith("Mine")
    assert "<img" in shown["text/html"]


def test_an_empty_picture_has_a_message(space):
    figure = space.create_node("empty").state.history().plot()
    assert figure._repr_mimebundle_()["text/plain"].splitlines()[1:]
    assert texts(picture(figure))


def test_a_figure_that_is_displayed_is_made_into_a_bundle_once(space, orders, monkeypatch):
    figure = orders.state.history().plot("n")
    made = []
    as_it_is = type(figure).to_dict
    monkeypatch.setattr(type(figure), "to_dict", lambda self: made.append(self) or as_it_is(self))
    shown, _ = DisplayFormatter().format(figure)
    assert PLOTLY in shown
    assert len(made) == 2, "one for plotly, one to see that it was not changed"


def test_a_front_end_that_brings_plotlys_own_html_gets_no_second_picture(space, orders, monkeypatch):
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype+notebook_connected")
    assert "<img" not in orders.state.history().plot("n")._repr_mimebundle_()["text/html"]


OWN_LOOKS = {
    "a ground": {"paper_bgcolor": "black"},
    "a ground of the plot": {"plot_bgcolor": "white"},
    "a colour of texts": {"font_color": "red"},
}
PAGES_TEXT = "var(--jp-content-font-color1"


def test_the_texts_of_a_plot_have_the_colour_of_the_page(orders):
    for number in (10, 40):
        orders.state.set({"n": number, "status": "new"})
    for together in (False, True):
        figure = orders.state.history().plot("n", "status", x="revision", together=together)
        shown = figure._repr_mimebundle_()[PLOTLY]
        layout = shown["layout"]
        texts = [layout["title"]["text"], layout["xaxis"]["title"]["text"], layout["yaxis"]["tickprefix"]]
        texts += [note["text"] for note in layout["annotations"]]
        texts += [trace.get("texttemplate") or trace.get("name") for trace in shown["data"]]
        assert all(PAGES_TEXT in text for text in texts if text)
        assert PAGES_TEXT not in figure.to_json()


@pytest.mark.parametrize("look", OWN_LOOKS.values(), ids=OWN_LOOKS)
def test_texts_keep_their_colour_on_another_ground_and_with_another_colour(orders, look):
    orders.state.set({"n": 5, "status": "new"})
    figure = orders.state.history().plot(x="revision").update_layout(look)
    assert PAGES_TEXT not in str(figure._repr_mimebundle_()[PLOTLY])


def test_a_text_with_its_own_colour_keeps_it(orders):
    orders.state.set({"n": 5})
    figure = orders.state.history().plot("n", x="revision").update_layout(title_font_color="red")
    layout = figure._repr_mimebundle_()[PLOTLY]["layout"]
    assert PAGES_TEXT not in layout["title"]["text"]
    assert PAGES_TEXT in layout["xaxis"]["tickprefix"]
