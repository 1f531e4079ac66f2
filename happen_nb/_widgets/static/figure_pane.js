// Draws a figure and redraws it in place, keeping the zoom and the traces that the reader has hidden.

const RETRY_MS = 3000; // after which plotly's script is requested again

// The script is large, so a page gets it only once, for all widgets.
const page = (globalThis.hnPlotly ??= { script: null, requested: 0 });

async function load(source) {
  const before = globalThis.Plotly; // the script overwrites it, and other code may use it
  const parts = ["const module = { exports: {} };\n", source, "\nexport default module.exports;"];
  const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
  const { default: library } = await import(/* webpackIgnore: true */ url);
  URL.revokeObjectURL(url);
  globalThis.Plotly = before;
  return library;
}

function plotly(model, signal) {
  return new Promise((resolve) => {
    const stop = () => {
      clearInterval(timer);
      model.off("msg:custom", receive);
    };
    const check = () => {
      if (page.script) {
        stop();
        resolve(page.script);
      } else if (Date.now() - page.requested > RETRY_MS) {
        page.requested = Date.now();
        model.send({ do: "plotly" });
      }
    };
    const receive = (message, buffers) => {
      if (message.type !== "plotly") return;
      page.script ??= load(buffers[0]);
      check();
    };
    model.on("msg:custom", receive);
    const timer = setInterval(check, 100);
    signal.addEventListener("abort", stop);
    check();
  });
}

function render({ model, el }) {
  const closing = new AbortController();
  const box = document.createElement("div");
  el.append(box);
  let script = null;
  let kernelLayout = {};
  const zoomed = new Map(); // axis -> the range that the reader has chosen

  function draw() {
    const figure = model.get("figure");
    if (!script || !figure) return;
    const { data, layout } = JSON.parse(figure);
    kernelLayout = structuredClone(layout);
    layout.uirevision ??= "keep"; // keeps hidden traces, and ranges that the kernel does not set
    for (const [axis, range] of zoomed) layout[axis] = { ...layout[axis], range, autorange: false };
    const isFirst = !box.data;
    script.react(box, data, layout, { displaylogo: false });
    if (isFirst) box.on("plotly_relayout", rememberZoom);
  }

  function rememberZoom(changes) {
    for (const [axis] of Object.keys(changes).map((key) => key.split("."))) {
      if (!/^[xy]axis\d*$/.test(axis)) continue;
      const range = box.layout[axis]?.range;
      const isReset = changes[`${axis}.autorange`] || String(range) === String(kernelLayout[axis]?.range);
      if (isReset || !range) zoomed.delete(axis);
      else zoomed.set(axis, [...range]);
    }
  }

  const watcher = new ResizeObserver(() => {
    if (box.offsetWidth && box.data) script.Plots.resize(box);
  });
  plotly(model, closing.signal).then((library) => {
    if (closing.signal.aborted) return;
    script = library;
    draw();
    watcher.observe(el);
  });
  model.on("change:figure", draw);
  return () => {
    closing.abort();
    watcher.disconnect();
    model.off("change:figure", draw);
    script?.purge(box);
  };
}

export default { initialize, render };
