// The place of the dashboard: how high it is, and whether it is in its output or beside the notebook.

// A handle below a part of the page, which makes that part higher or lower: by dragging, or with the arrow keys.

const [MIN_HEIGHT, MAX_HEIGHT, HEIGHT_STEP] = [120, 1600, 20]; // pixels

function makeDivider(part, resized) {
  const handle = h("div", { class: "hn-divider", role: "separator", tabindex: 0, "aria-orientation": "horizontal",
    "aria-label": "Height", "aria-valuemin": MIN_HEIGHT, "aria-valuemax": MAX_HEIGHT,
    title: "Drag to resize, or use the arrow keys", onpointerdown: grab, onkeydown: keys });
  let grabbed = null; // where the pointer is, and the height then

  function set(height) {
    const fitting = Math.round(Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, height)));
    part.style.setProperty("--hn-height", `${fitting}px`);
    handle.setAttribute("aria-valuenow", fitting);
    resized();
  }

  const height = () => Number(handle.getAttribute("aria-valuenow"));

  function grab(event) {
    grabbed = { y: event.clientY, height: height() };
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = ({ clientY }) => set(grabbed.height + clientY - grabbed.y);
    handle.onpointerup = () => { handle.onpointermove = null; };
  }

  function keys(event) {
    const by = { ArrowDown: HEIGHT_STEP, ArrowUp: -HEIGHT_STEP, PageDown: 5 * HEIGHT_STEP, PageUp: -5 * HEIGHT_STEP }[event.key];
    if (!by) return;
    set(height() + by);
    event.preventDefault();
  }

  set(320);
  return { handle, height, set };
}

// Moves the dashboard from its output into a tab beside the notebook, and back. JupyterLab's extension of the
// same package offers that; without it, there is no button.

function makeSideTab(root, title, divider) {
  const host = globalThis.happenSideTab;
  const move = h("button", { title: "Show in a tab beside the notebook", onclick: toggle, hidden: !host }, "side tab");
  const note = h("div", { class: "happen hn-away" }, "The dashboard is in a tab beside the notebook. ",
    h("button", { onclick: () => tab.close() }, "bring it back"));
  let tab = null; // while it is there
  let heightInCell = 0;
  const watcher = new ResizeObserver(fill);

  function toggle() {
    if (tab) tab.close();
    else open();
  }

  function open() {
    root.before(note);
    tab = host.show(title(), root, comeBack);
    move.textContent = "back to the cell";
    heightInCell = divider().height();
    watcher.observe(root.parentElement);
  }

  function comeBack() {
    tab = null;
    note.replaceWith(root);
    move.textContent = "side tab";
    watcher.disconnect();
    divider().set(heightInCell);
  }

  function fill() { // the tab; some parts of the dashboard grow more than others, so that it may be too much
    const space = root.parentElement;
    divider().set(divider().height() + space.clientHeight - root.offsetHeight);
    divider().set(divider().height() - Math.max(0, space.scrollHeight - space.clientHeight));
  }

  return {
    button: move,
    join() { // the cell ran again: its tab is still there
      if (!tab && host?.isFree(title())) open();
    },
    leave() {
      watcher.disconnect();
      const gone = h("p", { class: "happen hn-away" }, "This dashboard has ended. Run its cell again to continue here.");
      tab?.release(gone);
      note.remove();
    },
  };
}
