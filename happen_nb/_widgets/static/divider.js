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
