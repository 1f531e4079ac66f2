"""The first figure of a kernel is there at once, and as plotly itself would give it."""


def result(run):
    (found,) = (m["content"]["data"] for m in run.messages if m["msg_type"] == "execute_result")
    return found


def test_the_first_figure_does_not_wait_for_what_reads_notebooks(own_kernel):
    own_kernel.do(
        "space = happen.connect(name='first', fresh=True); node = space.create_node('node', initial={'n': 1})"
    )
    first = result(own_kernel.do("figure = node.state.history().plot('n'); figure"))
    assert own_kernel.do("import sys; print('nbformat' in sys.modules)").stdout == "False\n"
    own_kernel.do("import plotly.io; plotly.io.renderers.default")
    assert result(own_kernel.do("figure")) == first
    own_kernel.do("plotly.io.renderers.default = 'json'")
    assert "application/json" in result(own_kernel.do("figure._repr_mimebundle_()"))["text/plain"]
