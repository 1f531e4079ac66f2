// The timeline: pointing, pressing, selecting, searching and zooming.

const POINT_MS = 60; // between two questions about the mark under the pointer
const LEAST_DRAG = 5; // pixels; a shorter drag is a click
const FIND_MS = 200;
const STEPS = { ArrowLeft: "previous", ArrowRight: "next", ArrowUp: "cause", ArrowDown: "effect" };
const ZOOMS = { "+": "in", "=": "in", "-": "out", 0: "all", Home: "all" };

function extendTimeline({ el, frame, box, send, closePanel }) {
  const zoom = (to) => send({ do: "zoom", to });
  const button = (text, to, title) => iconButton(text, title, () => zoom(to));
  const all = button("All", "all", "Show everything, and follow the space (0)");
  const toSelection = button("Zoom to selection", "selection", "Show only the selected time");
  const input = h("input", { type: "search", placeholder: "find", "aria-label": "Find a type, node, handler, error or id" });
  const bar = h("fieldset", { class: "hn-bar" }, input, button("−", "out", "Zoom out (−)"), button("+", "in", "Zoom in (+)"), all, toSelection);
  const selected = h("div", { class: "hn-selected", hidden: true });
  const tip = h("div", { class: "hn-tip", role: "status", hidden: true });
  all.disabled = toSelection.disabled = true;
  frame.append(selected, tip);
  el.prepend(bar);
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Timeline: left and right move along a lane, up goes to the cause, down to an effect");

  let findTimer;
  input.addEventListener("input", () => {
    clearTimeout(findTimer);
    findTimer = setTimeout(() => send({ do: "find", text: input.value }), FIND_MS);
  });

  const place = (event) => {
    const { left, top } = box.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };

  // -- pointing

  let pointTimer, request = 0;
  const hideTip = () => {
    clearTimeout(pointTimer);
    request++;
    tip.hidden = true;
  };
  box.addEventListener("pointermove", (event) => {
    hideTip();
    if (drag) return;
    const [x, y] = place(event);
    pointTimer = setTimeout(() => {
      tip.style.left = `${Math.min(x + 12, Math.max(0, box.clientWidth - 320))}px`;
      tip.style.top = `${y + 14}px`;
      send({ do: "point", x, y, request });
    }, POINT_MS);
  });
  box.addEventListener("pointerleave", hideTip);

  // -- pressing and selecting

  let drag;
  box.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("[data-key]")) return;
    const [x, y] = place(event); // before the click makes the cell the active one, which may move it
    drag = { from: x, y };
    box.setPointerCapture(event.pointerId);
    hideTip();
  });
  box.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x] = place(event);
    const [left, right] = [Math.min(x, drag.from), Math.max(x, drag.from)];
    drag.isLong ||= right - left > LEAST_DRAG;
    selected.hidden = !drag.isLong;
    selected.style.left = `${left}px`;
    selected.style.width = `${right - left}px`;
  });
  box.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { from, y, isLong } = drag;
    drag = undefined;
    if (isLong) send({ do: "select", from, to: place(event)[0] });
    else {
      selected.hidden = true;
      send({ do: "choose", x: from, y });
    }
  });
  box.addEventListener("pointercancel", () => { drag = undefined; selected.hidden = true; });
  box.addEventListener("dblclick", () => zoom("all"));

  return {
    key(key) {
      if (STEPS[key]) send({ do: "step", to: STEPS[key] });
      else if (ZOOMS[key]) zoom(ZOOMS[key]);
      else return false;
      return true;
    },
    drawn({ is_part: isPart, selected: hasSelection }) {
      all.disabled = !isPart;
      toSelection.disabled = !hasSelection;
      if (!hasSelection && !drag) selected.hidden = true;
    },
    message({ type, request: answered, text }) {
      if (type !== "tip" || answered !== request || !text) return;
      tip.textContent = text;
      tip.hidden = false;
    },
  };
}

export default { initialize, render: (context) => showPicture(context, extendTimeline) };
