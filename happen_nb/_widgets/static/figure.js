// Draws a figure, and draws it anew in place: what its reader has zoomed to or switched off stays so.

const AGAIN = 3000; // ms after which plotly's script is asked for again

// The script is large, so a page gets it once, whichever widget has asked for it.
const page = (globalThis.hnPlotly ??= { script: null, asked: 0 });

async function load(source) {
  const before = globalThis.Plotly; // the script sets it, and it may be another's
  const parts = ["const module = { exports: {} };\n", source, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  const { default: made } = await import(/* webpackIgnore: true */ url);
  URL.revokeObjectURL(url);
  globalThis.Plotly = before;
  return made;
}

function plotly(model, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearInterval(timer);
      model.off("msg:custom", take);
    };
    const look = () => {
      if (page.script) {
        end();
        resolve(page.script);
      } else if (Date.now() - page.asked > AGAIN) {
        page.asked = Date.now();
        model.send({ do: "plotly" });
      }
    };
    const take = (message, buffers) => {
      if (message.type !== "plotly") return;
      page.script ??= load(buffers[0]);
      look();
    };
    model.on("msg:custom", take);
    const timer = setInterval(look, 100);
    signal.addEventListener("abort", end);
    look();
  });
}

function render({ model, el }) {
  const ends = new AbortController();
  const box = document.createElement("div");
  el.append(box);
  let script = null;
  let given = {}; // the layout as the kernel gave it
  const zoomed = new Map(); // axis -> the range that its reader has chosen

  function draw() {
    const figure = model.get("figure");
    if (!script || !figure) return;
    const { data, layout } = JSON.parse(figure);
    given = structuredClone(layout);
    layout.uirevision ??= "kept"; // what was switched off stays so, and ranges that the kernel does not give
    for (const [axis, range] of zoomed) layout[axis] = { ...layout[axis], range, autorange: false };
    const isFirst = !box.data;
    script.react(box, data, layout, { displaylogo: false });
    if (isFirst) box.on("plotly_relayout", note);
  }

  function note(changes) {
    for (const [axis] of Object.keys(changes).map((key) => key.split("."))) {
      if (!/^[xy]axis\d*$/.test(axis)) continue;
      const range = box.layout[axis]?.range;
      const isReset = changes[`${axis}.autorange`] || String(range) === String(given[axis]?.range);
      if (isReset || !range) zoomed.delete(axis);
      else zoomed.set(axis, [...range]);
    }
  }

  const watcher = new ResizeObserver(() => {
    if (box.offsetWidth && box.data) script.Plots.resize(box);
  });
  plotly(model, ends.signal).then((made) => {
    if (ends.signal.aborted) return;
    script = made;
    draw();
    watcher.observe(el);
  });
  model.on("change:figure", draw);
  return () => {
    ends.abort();
    watcher.disconnect();
    model.off("change:figure", draw);
    script?.purge(box);
  };
}

export default { render };
