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

// A button beside the row that is pointed at, which copies its path; and the keys that do the same.
function makeCopier(el, page) {
  const button = h("button", { type: "button", tabindex: -1, onclick: () => copy() }, "copy path");
  const status = h("span", { role: "status" });
  const element = h("div", { class: "happen hn-copier", hidden: true }, status, button);
  let label = null;

  function show(target) {
    label = target;
    button.title = label.dataset.path;
    status.textContent = "";
    element.hidden = false;
    element.style.top = `${label.getBoundingClientRect().top - el.getBoundingClientRect().top - 2}px`;
  }

  function copy() {
    copyText(label.dataset.path);
    status.textContent = `copied ${label.dataset.path}`;
  }

  function move(by) {
    const labels = [...page.querySelectorAll("b[data-path]")].filter((each) => each.offsetParent);
    const next = labels[labels.indexOf(document.activeElement) + by];
    if (!next) return;
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  page.addEventListener("mouseover", ({ target }) => {
    const time = target.closest("time[datetime]");
    if (time && !time.dateTime.startsWith("P")) time.title = ago(Date.parse(time.dateTime));
    const row = target.closest("li");
    const own = row?.querySelector(":scope > b[data-path], :scope > details > summary > b[data-path]");
    if (own && own !== label) show(own);
  });
  el.addEventListener("mouseleave", () => { element.hidden = true; label = null; });
  page.addEventListener("focusin", ({ target }) => target.dataset.path !== undefined && show(target));
  page.addEventListener("keydown", (event) => {
    if (event.target.dataset.path === undefined || event.ctrlKey || event.metaKey) return;
    const fold = event.target.closest("summary")?.parentElement;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key.toLowerCase() === "c") copy();
    else if ((event.key === "Enter" || event.key === " ") && fold) event.target.click();
    else return;
    event.preventDefault();
  });
  function renew(labels) {
    label &&= labels.find((each) => each.dataset.path === label.dataset.path);
    element.hidden = !label;
  }

  return { element, renew };
}

function render({ model, el }) {
  const toggled = new Map();
  const page = h("div", {});
  const copier = makeCopier(el, page);
  el.classList.add("hn-pane");
  el.append(page, copier.element);
  keepKeys(el); // otherwise Enter on a fold would open the cell's editor in JupyterLab
  el.addEventListener("click", (event) => {
    const summary = event.target.closest("summary");
    const details = summary?.parentElement;
    if (details) toggled.set(pathOf(details, el), !details.open);
  });

  function draw() {
    const focused = el.contains(document.activeElement) && document.activeElement.closest("details");
    const path = focused ? pathOf(focused, el) : null;
    const label = el.contains(document.activeElement) ? document.activeElement.dataset.path : undefined;
    page.innerHTML = model.get("html");
    for (const details of el.querySelectorAll("details")) {
      const itsPath = pathOf(details, el);
      if (toggled.has(itsPath)) details.open = toggled.get(itsPath);
      if (itsPath === path) details.querySelector("summary").focus({ preventScroll: true });
    }
    const labels = [...page.querySelectorAll("b[data-path]")];
    for (const each of labels) each.tabIndex = -1;
    if (labels.length) labels[0].tabIndex = 0;
    copier.renew(labels);
    if (label !== undefined) labels.find((each) => each.dataset.path === label)?.focus({ preventScroll: true });
  }

  const redraw = whileNotPressed(el, draw);
  model.on("change:html", redraw);
  draw();
  return () => model.off("change:html", redraw);
}

export default { initialize, render };
