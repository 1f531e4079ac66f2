// Shows a picture that the kernel draws for the width of the page, and dots that move along its arrows.

const MOVE_MS = 700;
const BETWEEN_DOTS_MS = 90;
const MAX_DOTS = 40;
const DOT_RADIUS = 4;

const prefersStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

function makeDots(box) {
  function move(way, delay) {
    const path = box.querySelector(`[data-way="${way}"]`);
    const length = path?.getTotalLength() ?? 0;
    if (!length) return;
    const dot = s("circle", { r: DOT_RADIUS, class: "hn-dot", style: `fill: ${path.getAttribute("stroke")}`, visibility: "hidden" });
    path.after(dot);
    const start = performance.now() + delay;
    const step = (now) => {
      const share = (now - start) / MOVE_MS;
      if (!dot.isConnected) return;
      if (share >= 1) return dot.remove();
      if (share >= 0) {
        const at = path.getPointAtLength(length * share);
        dot.setAttribute("cx", at.x);
        dot.setAttribute("cy", at.y);
        dot.setAttribute("visibility", "visible");
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  return (moves) => {
    if (prefersStillness()) {
      for (const [way] of moves) box.querySelector(`[data-way="${way}"]`)?.classList.add("hn-fresh");
      return;
    }
    let dots = 0;
    for (const [way, number] of moves) {
      for (let each = 0; each < number && dots < MAX_DOTS; each++, dots++) move(way, each * BETWEEN_DOTS_MS);
    }
  };
}

function makePanel(close) {
  const content = h("div", {});
  const button = h("button", { type: "button", "aria-label": "Close", onclick: close }, "×");
  const element = h("section", { class: "hn-panel", "aria-label": "Details", hidden: true, tabindex: -1 }, button, content);
  return {
    element,
    show(html) {
      content.innerHTML = html; // rendered by the kernel, which escapes all texts
      element.hidden = false;
    },
  };
}

function makeGroups(open) {
  const element = h("fieldset", { class: "hn-groups" });
  let shown = "[]";
  return {
    element,
    show(groups) {
      if (JSON.stringify(groups) === shown) return;
      shown = JSON.stringify(groups);
      const buttons = groups.map(([name, isOpen]) =>
        h("button", { type: "button", "aria-expanded": String(isOpen), onclick: () => open(name) }, `${isOpen ? "▾" : "▸"} ${name}`));
      const focused = [...element.children].indexOf(document.activeElement);
      element.replaceChildren(...buttons);
      element.children[focused]?.focus();
    },
  };
}

// The rest of a picture: `extend` gets the parts of the view, and returns what to do with a message that has drawn
// it, with other messages, and with keys.
function showPicture({ model, el }, extend = () => ({})) {
  const view = newId("view");
  let asked = 0, closed = 0; // answers to questions from before the panel was closed do not open it again
  const send = (message) => sendTo(model, { view, asked: ++asked, ...message });
  const box = h("div", { class: "hn-drawn" });
  const panel = makePanel(closePanel);
  const groups = makeGroups((name) => send({ do: "group", name }));
  const moveDots = makeDots(box);
  let pressed; // the key of the mark whose details are shown
  el.classList.add("happen", "hn-picture");
  keepKeys(el); // otherwise keys would be JupyterLab's
  const frame = h("div", { class: "hn-frame" }, box);
  const status = h("div", { class: "hn-quiet", role: "status" });
  el.append(groups.element, frame, status, panel.element);
  const own = extend({ el, frame, box, send, closePanel });

  const marks = () => [...box.querySelectorAll("[data-key]")];

  function focusOn(mark) {
    for (const each of marks()) each.setAttribute("tabindex", each === mark ? 0 : -1);
    return mark;
  }

  function closePanel() {
    closed = asked;
    panel.element.hidden = true;
    const mark = marks().find((each) => each.dataset.key === pressed);
    pressed = undefined;
    if (panel.element.contains(document.activeElement) || document.activeElement === document.body) mark?.focus();
  }

  function press(mark) {
    pressed = mark.dataset.key;
    focusOn(mark);
    send({ do: "press", key: pressed });
  }

  box.addEventListener("click", ({ target }) => {
    const mark = target.closest("[data-key]");
    if (mark) press(mark);
  });

  el.addEventListener("keydown", (event) => {
    if (isCommand(event)) return;
    if (event.key === "Escape" && !panel.element.hidden) closePanel();
    else if (!box.contains(event.target)) return;
    else if (event.target === box && own.key) {
      if (!own.key(event.key)) return;
    } else if (event.key === "Enter" || event.key === " ") press(event.target);
    else if (/^Arrow|^Home$|^End$/.test(event.key)) step(event.target, event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function step(from, key) {
    const all = marks(), at = all.indexOf(from);
    const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[key];
    if (all[next]) focusOn(all[next]).focus();
  }

  const draw = whileNotPressed(box, (message) => {
    const { svg, moves, groups: names } = message;
    const focused = box.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const current = box.querySelector('[data-key][tabindex="0"]')?.dataset.key;
    box.innerHTML = svg; // drawn by the kernel, which escapes all texts
    setAnswered();
    groups.show(names);
    const all = marks();
    if (all.length) focusOn(all.find((each) => each.dataset.key === (focused ?? current)) ?? all[0]);
    if (focused !== undefined) box.querySelector('[data-key][tabindex="0"]')?.focus({ preventScroll: true });
    moveDots(moves);
    own.drawn?.(message);
  });

  const onMessage = (message) => {
    if (message.view !== view) return;
    if (message.type === "drawn") draw(message);
    else if (message.type !== "panel") own.message?.(message);
    else if (message.asked > closed) panel.show(message.html);
  };
  model.on("msg:custom", onMessage);

  let width = 0;
  const observer = new ResizeObserver(() => {
    const now = Math.floor(box.clientWidth);
    if (!now || now === width) return;
    width = now;
    send({ do: "draw", width });
  });
  observer.observe(box);
  const setAnswered = untilAnswered(el);
  const stopLooking = whenEnded(model, (end) => {
    status.textContent = end;
    for (const each of el.querySelectorAll("fieldset")) each.disabled = end === NO_ANSWER; // a closed one is still drawn
  });
  return () => {
    stopLooking();
    setAnswered();
    observer.disconnect();
    model.off("msg:custom", onMessage);
  };
}
