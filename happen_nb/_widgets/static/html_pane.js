// Shows HTML from the kernel; folds that the reader has opened or closed keep their state when it changes.

const pathOf = (details, root) => {
  const labels = [];
  for (let at = details; at && at !== root; at = at.parentElement.closest("details")) {
    const summary = at.querySelector(":scope > summary");
    const label = summary?.querySelector("b")?.textContent ?? summary?.textContent;
    labels.unshift(label);
  }
  return JSON.stringify(labels);
};

function render({ model, el }) {
  const toggled = new Map();
  el.classList.add("hn-pane");
  keepKeys(el); // otherwise Enter on a fold would open the cell's editor in JupyterLab
  el.addEventListener("click", (event) => {
    const summary = event.target.closest("summary");
    const details = summary?.parentElement;
    if (details) toggled.set(pathOf(details, el), !details.open);
  });
  el.addEventListener("mouseover", ({ target }) => {
    const time = target.closest("time[datetime]");
    if (time && !time.dateTime.startsWith("P")) time.title = ago(Date.parse(time.dateTime));
  });

  function draw() {
    const focused = el.contains(document.activeElement) && document.activeElement.closest("details");
    const path = focused ? pathOf(focused, el) : null;
    el.innerHTML = model.get("html");
    for (const details of el.querySelectorAll("details")) {
      const itsPath = pathOf(details, el);
      if (toggled.has(itsPath)) details.open = toggled.get(itsPath);
      if (itsPath === path) details.querySelector("summary").focus({ preventScroll: true });
    }
  }

  const redraw = whileNotPressed(el, draw);
  model.on("change:html", redraw);
  draw();
  return () => model.off("change:html", redraw);
}

export default { initialize, render };
