// Values over time: the kernel sends new values, and the page draws them.

// -- axes ---------------------------------------------------------------------------------------------------

const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000];
const ROUND_TIMES = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((each) => each * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((each) => each * MINUTE),
  ...[1, 2, 3, 6, 12].map((each) => each * HOUR),
  ...[1, 2, 7, 14, 30, 91, 182, 365, 730, 3650].map((each) => each * DAY),
];

const roundStep = (least) => {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].find((digit) => digit * power >= least) * power;
};

// The ends and the ticks of an axis that shows these values, at most so many.
function numberAxis(low, high, most) {
  const least = (high - low || Math.abs(low) / 5 || 1) / most;
  const step = Number.isFinite(least) && least > 1e-300 ? roundStep(least) : 1;
  const isLevel = low === high;
  const start = (Math.floor(low / step + 1e-9) - (isLevel ? 1 : 0)) * step;
  const count = Math.min(2 * most + 2, Math.max(1, Math.ceil((high - start) / step - 1e-9)) + (isLevel ? 1 : 0));
  const ticks = Array.from({ length: count + 1 }, (_, at) => Number((start + at * step).toPrecision(12)));
  return { low: ticks[0], high: ticks.at(-1), ticks };
}

const textOfNumber = (number) => {
  const size = Math.abs(number);
  if (size >= 1e9 || (size && size < 1e-4)) return number.toExponential(2).replace("e+", "e");
  return number.toLocaleString("en", { maximumSignificantDigits: 6 });
};

// Round times between two, with their labels in UTC.
function timeTicks(from, to, most) {
  const step = ROUND_TIMES.find((each) => each >= (to - from) / most) ?? ROUND_TIMES.at(-1);
  const text = (ms) => {
    const iso = new Date(ms).toISOString();
    if (step >= DAY) return iso.slice(0, 10);
    return step < SECOND ? iso.slice(11, 23) : step < MINUTE ? iso.slice(11, 19) : iso.slice(11, 16);
  };
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push([at, text(at)]);
  return ticks;
}

// -- steps: [ms, value] in order, each of which holds until the next; null is a gap ------------------------------

const isNumber = (value) => typeof value === "number";

// The index of the value that holds at a moment; -1 before the first.
const holding = (points, ms) => countUpTo(points, ms) - 1;

// The lowest and the highest number between two moments; null if there is none.
function extent(points, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (let at = Math.max(0, holding(points, from)); at < points.length && points[at][0] <= to; at++) {
    const value = points[at][1];
    if (!isNumber(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}

// The path of a line of steps; what falls on one half of a pixel is one upright stroke.
function stepPath(points, from, to, x, y) {
  const parts = [];
  let pending = null;
  let isDown = false;
  const flush = () => {
    if (!pending) return;
    const { column, first, low, high, last } = pending;
    parts.push(isDown ? `H${column}V${first}` : `M${column} ${first}`);
    if (low !== high) parts.push(`V${low}V${high}V${last}`);
    isDown = true;
    pending = null;
  };
  for (let at = Math.max(0, holding(points, from)); at < points.length && points[at][0] <= to; at++) {
    const [ms, value] = points[at];
    const column = Math.round(2 * x(Math.max(ms, from))) / 2;
    if (!isNumber(value)) {
      flush();
      if (isDown) parts.push(`H${column}`);
      isDown = false;
      continue;
    }
    const height = Math.round(10 * y(value)) / 10;
    if (pending && pending.column !== column) flush();
    pending ??= { column, first: height, low: height, high: height, last: height };
    pending.low = Math.min(pending.low, height);
    pending.high = Math.max(pending.high, height);
    pending.last = height;
  }
  flush();
  if (isDown) parts.push(`H${Math.round(2 * x(to)) / 2}`);
  return parts.join("");
}

// -- the plot -----------------------------------------------------------------------------------------------

const ROW = { steps: 92, together: 210, bands: 24 }; // pixels
const [TITLE, GAP, RIGHT, BOTTOM] = [28, 8, 14, 24];
const CHARACTER = 7.2; // pixels, about, of the 12 px font
const COLOURS = 8;
const MAX_KEPT = 20_000; // points of a line that a zoomed plot keeps

const colour = (at) => `--hn-own: var(--c${at % COLOURS})`;
const shorten = (text, room) => {
  const most = Math.floor(room / CHARACTER);
  return text.length <= most ? text : most < 3 ? "" : `${text.slice(0, most - 1)}…`;
};
const textOf = (value) => (value == null ? "–" : isNumber(value) ? textOfNumber(value) : value);

function render({ model, el }) {
  let lines = []; // { name, points, isHidden, isText, colours: text -> number }
  let [isTogether, span, now, title] = [false, null, 0, ""];
  let zoom = null; // the two moments that the reader has chosen
  let cursor = null; // the moment that the reader points at
  let drag = null; // where a drag began, and where it is
  let chosen = null; // the line whose name is under the pointer
  let end = null; // the reason why it no longer follows
  let place = { left: 0, right: 1, from: 0, to: 1 };
  let [isDrawPending, isSeen] = [false, true];

  const name = h("b", {});
  const status = h("span", { class: "hn-status", role: "status" });
  const reset = iconButton("follow", "Show the newest values again (0)", () => setZoom(null));
  reset.hidden = true;
  const head = h("div", { class: "hn-line" }, h("span", { class: "hn-title" }, name), status, reset,
    iconButton("−", "Zoom out (-)", () => zoomBy(2)), iconButton("+", "Zoom in (+)", () => zoomBy(0.5)));
  const legend = h("div", { class: "hn-line hn-legend", role: "group", "aria-label": "Lines" });
  const picture = s("svg", { class: "hn-lines", "aria-hidden": "true" });
  const pointing = { onpointerdown: grab, onpointermove: move, onpointerup: drop, onpointerleave: leave };
  const box = h("div", { class: "hn-box", role: "slider", tabindex: 0, onkeydown: keys, onwheel: wheel,
    ondblclick: () => setZoom(null), onblur: () => setCursor(null), ...pointing }, picture);
  const note = h("p", { class: "e", hidden: true });
  const root = keepKeys(h("div", { class: "happen hn-plot", role: "region" }, head, legend, box, note));

  // -- what is shown --------------------------------------------------------------------------------

  function whole() {
    const starts = lines.filter(({ points }) => points.length).map(({ points }) => points[0][0]);
    const first = starts.length ? Math.min(...starts) : now - SECOND;
    return span ? [now - span, now] : [first, Math.max(now, first + SECOND)];
  }

  const shown = () => zoom ?? whole();

  function rows() {
    const visible = lines.filter((line) => !line.isHidden && (!isTogether || !line.isText));
    if (!isTogether) return visible.map((line) => [line]);
    return [visible, ...lines.filter((line) => !line.isHidden && line.isText).map((line) => [line])];
  }

  function schedule() {
    if (isDrawPending || !isSeen) return;
    isDrawPending = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    isDrawPending = false;
    const width = box.clientWidth;
    if (!width || !lines.length) return;
    const [from, to] = shown();
    const groups = rows();
    const scales = groups.map((group) => scaleOf(group, from, to));
    const labels = scales.flatMap((scale) => scale?.ticks.map(textOfNumber) ?? []);
    const left = Math.ceil(Math.max(30, ...labels.map((label) => label.length * CHARACTER + 10)));
    place = { left, right: width - RIGHT, from, to };
    const parts = [];
    let top = 0;
    groups.forEach((group, at) => {
      const isShared = isTogether && at === 0;
      if (!isShared) parts.push(rowTitle(group[0], top + 14, from, to));
      top += isShared ? 8 : TITLE;
      const height = isShared ? ROW.together : scales[at] ? ROW.steps : ROW.bands;
      parts.push(...(scales[at] ? drawSteps(group, scales[at], top, height) : drawBands(group[0], top, height)));
      top += height + GAP;
    });
    const bottom = top - GAP;
    picture.replaceChildren(...timeAxis(bottom), ...parts, ...drawCursor(bottom));
    picture.setAttribute("width", width);
    picture.setAttribute("height", bottom + BOTTOM);
    describe();
  }

  const x = (ms) => place.left + ((ms - place.from) / (place.to - place.from || 1)) * (place.right - place.left);
  const momentAt = (px) => place.from + ((px - place.left) / (place.right - place.left)) * (place.to - place.from);

  function scaleOf(group, from, to) {
    if (group.some(({ isText }) => isText)) return null;
    const found = group.map(({ points }) => extent(points, from, to)).filter(Boolean);
    const [low, high] = [Math.min(...found.map(([each]) => each)), Math.max(...found.map(([, each]) => each))];
    return found.length ? numberAxis(low, high, isTogether ? 5 : 3) : numberAxis(0, 1, 2);
  }

  function rowTitle(line, y, from, to) {
    const room = place.right - 4;
    const name = shorten(line.name, room * 0.6);
    const value = shorten(textOf(valueAt(line, cursor ?? to)), room - (name.length + 3) * CHARACTER);
    return s("text", { x: 2, y }, s("tspan", { class: "hn-name" }, name), `  ${value}`);
  }

  function valueAt(line, ms) {
    const at = holding(line.points, Math.min(ms, now));
    return at < 0 ? null : line.points[at][1];
  }

  function drawSteps(group, { low, high, ticks }, top, height) {
    const y = (value) => top + height - ((value - low) / (high - low || 1)) * height;
    const grid = ticks.map((tick) => `M${place.left} ${Math.round(y(tick)) + 0.5}H${place.right}`).join("");
    const parts = [s("path", { class: "hn-grid", d: grid })];
    for (const tick of ticks) {
      parts.push(s("text", { x: place.left - 6, y: y(tick) + 4, "text-anchor": "end" }, textOfNumber(tick)));
    }
    for (const line of group) {
      const style = colour(lines.indexOf(line));
      const until = Math.min(place.to, Math.max(now, place.from));
      const d = stepPath(line.points, place.from, until, x, y);
      parts.push(s("path", { class: line === chosen ? "hn-steps hn-chosen" : "hn-steps", d, style }));
      const at = cursor === null ? until : Math.min(cursor, until);
      const value = valueAt(line, at);
      if (isNumber(value)) parts.push(s("circle", { class: "hn-dot", cx: x(at), cy: y(value), r: 4, style }));
    }
    return parts;
  }

  function drawBands(line, top, height) {
    const parts = [];
    const { points, colours } = line;
    let last = null; // bands narrower than a pixel are drawn as one
    for (let at = Math.max(0, holding(points, place.from)); at < points.length && points[at][0] <= place.to; at++) {
      const [ms, value] = points[at];
      if (value === null) continue;
      const text = textOf(value);
      if (!colours.has(text)) colours.set(text, colours.size);
      const from = x(Math.max(ms, place.from));
      const width = x(Math.min(points[at + 1]?.[0] ?? now, place.to)) - from;
      if (width < 1 && last !== null && from - last < 1) continue;
      last = from;
      const style = colour(colours.get(text));
      parts.push(s("rect", { class: "hn-band", x: from, y: top, width: Math.max(1, width), height, style }));
      parts.push(s("rect", { class: "hn-edge", x: from, y: top, width: Math.min(2, Math.max(1, width)), height, style }));
      const label = shorten(text, width - 12);
      if (label) parts.push(s("text", { class: "hn-in", x: from + 7, y: top + height / 2 + 4 }, label));
    }
    return parts;
  }

  function timeAxis(bottom) {
    const ticks = timeTicks(place.from, place.to, Math.max(2, (place.right - place.left) / 110));
    const grid = ticks.map(([ms]) => `M${Math.round(x(ms)) + 0.5} 4V${bottom + 4}`).join("");
    const texts = ticks
      .filter(([ms, text]) => x(ms) + (text.length * CHARACTER) / 2 < place.right + RIGHT && x(ms) - 30 > 36)
      .map(([ms, text]) => s("text", { x: x(ms), y: bottom + 18, "text-anchor": "middle" }, text));
    return [s("path", { class: "hn-grid", d: grid }), s("text", { x: 2, y: bottom + 18 }, "UTC"), ...texts];
  }

  function drawCursor(bottom) {
    const parts = [];
    if (drag && Math.abs(drag.to - drag.from) > 3) {
      const from = Math.min(drag.from, drag.to);
      parts.push(s("rect", { class: "hn-drag", x: from, y: 0, width: Math.abs(drag.to - drag.from), height: bottom }));
    }
    const px = cursor === null ? -1 : x(cursor);
    if (px >= place.left && px <= place.right) {
      parts.push(s("path", { class: "hn-cursor", d: `M${Math.round(px) + 0.5} 0V${bottom}` }));
    }
    return parts;
  }

  function describe() {
    const at = cursor ?? shown()[1];
    const moment = `${new Date(at).toISOString().slice(0, 23).replace("T", " ")} UTC`;
    const values = lines.filter(({ isHidden }) => !isHidden).map((line) => `${line.name} ${textOf(valueAt(line, at))}`);
    if (document.activeElement === box) box.setAttribute("aria-valuetext", [moment, ...values].join(", "));
    box.setAttribute("aria-valuemin", Math.round(place.from));
    box.setAttribute("aria-valuemax", Math.round(place.to));
    box.setAttribute("aria-valuenow", Math.round(Math.min(Math.max(at, place.from), place.to)));
    const state = end ?? (zoom ? "zoomed" : "live");
    status.textContent = cursor === null ? state : moment;
    status.setAttribute("aria-live", cursor === null ? "polite" : "off");
    reset.hidden = !zoom;
    for (const button of legend.children) button.lastChild.textContent = textOf(valueAt(button.line, at));
  }

  function drawLegend() {
    legend.hidden = !isTogether;
    legend.replaceChildren(...lines.filter(({ isText }) => !isText).map((line) => {
      const toggle = () => { line.isHidden = !line.isHidden; drawLegend(); schedule(); };
      const point = (to) => () => { chosen = to; schedule(); };
      const pointed = { onpointerenter: point(line), onpointerleave: point(null), onfocus: point(line), onblur: point(null) };
      const attributes = { type: "button", "aria-pressed": String(!line.isHidden), style: colour(lines.indexOf(line)), onclick: toggle };
      const button = h("button", { ...attributes, ...pointed }, line.name, " ", h("span", {}));
      button.line = line;
      return button;
    }));
  }

  // -- what the reader does ---------------------------------------------------------------------------

  const setCursor = (ms) => { cursor = ms; schedule(); };
  const pixel = (event) => event.clientX - box.getBoundingClientRect().left;

  function setZoom(range) {
    const [from, to] = range ?? [0, 0];
    zoom = range && to - from >= 1 ? range : null;
    schedule();
  }

  function zoomBy(factor) {
    const [from, to] = shown();
    const around = cursor ?? (from + to) / 2;
    const range = [around - (around - from) * factor, around + (to - around) * factor];
    const [first, last] = whole();
    setZoom(range[0] <= first && range[1] >= last ? null : range);
  }

  function grab(event) {
    if (event.button) return;
    drag = { from: pixel(event), to: pixel(event) };
    box.setPointerCapture(event.pointerId);
  }

  function move(event) {
    const px = Math.min(Math.max(pixel(event), place.left), place.right);
    if (drag) drag.to = px;
    setCursor(momentAt(px));
  }

  function drop() {
    const [from, to] = drag ? [drag.from, drag.to].sort((one, other) => one - other) : [0, 0];
    drag = null;
    if (to - from > 5) setZoom([momentAt(Math.max(from, place.left)), momentAt(to)]);
    schedule();
  }

  function leave() {
    if (!drag) setCursor(null);
  }

  function wheel(event) {
    if (!event.ctrlKey) return; // without it, the page scrolls
    event.preventDefault();
    setCursor(momentAt(pixel(event)));
    zoomBy(event.deltaY < 0 ? 0.8 : 1.25);
  }

  function stepTo(direction) {
    const at = cursor ?? shown()[1];
    const moments = lines.filter(({ isHidden }) => !isHidden).map(({ points }) => {
      const index = holding(points, direction > 0 ? at : at - 1e-6) + (direction > 0 ? 1 : 0);
      return points[index]?.[0];
    }).filter((ms) => ms !== undefined && ms >= place.from && ms <= place.to);
    if (moments.length) setCursor(direction > 0 ? Math.min(...moments) : Math.max(...moments));
  }

  function keys(event) {
    const acts = {
      ArrowLeft: () => stepTo(-1), ArrowRight: () => stepTo(1),
      Home: () => setCursor(place.from), End: () => setCursor(place.to), Escape: () => setCursor(null),
      "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), 0: () => setZoom(null),
    };
    if (!acts[event.key] || isCommand(event)) return;
    acts[event.key]();
    event.preventDefault();
  }

  // -- what the kernel sends --------------------------------------------------------------------------

  function trim(line) {
    const excess = Math.max(zoom ? 0 : holding(line.points, whole()[0]), line.points.length - MAX_KEPT);
    if (excess > 0) line.points.splice(0, excess); // the last one holds where the window begins
  }

  const handlers = {
    all(message) {
      stopAsking();
      setAnswered();
      const hidden = new Set(lines.filter(({ isHidden }) => isHidden).map((line) => line.name));
      ({ title, together: isTogether, span, now } = message);
      lines = message.lines.map(([name, points]) => {
        const isText = points.some(([, value]) => typeof value === "string");
        return { name, points, isText, isHidden: hidden.has(name), colours: new Map() };
      });
      name.textContent = title;
      root.setAttribute("aria-label", title);
      box.setAttribute("aria-label", `Time in the plot of ${message.lines.map(([name]) => name).join(", ")}`);
      drawLegend();
      handlers.note(message);
    },
    points(message) {
      now = message.now;
      for (const [at, ms, value] of message.points) {
        lines[at].points.push([ms, value]);
        if (typeof value !== "string" || lines[at].isText) continue;
        lines[at].isText = true;
        drawLegend();
      }
      if (span) lines.forEach(trim);
    },
    note(message) {
      note.textContent = message.note;
      note.hidden = !message.note;
    },
  };
  const receive = (message) => {
    if (!lines.length && message.type === "points") return; // the message "all" comes first
    handlers[message.type]?.(message);
    schedule();
  };
  const resizing = new ResizeObserver(schedule);
  const seeing = new IntersectionObserver(([{ isIntersecting }]) => {
    isSeen = isIntersecting;
    schedule();
  });
  el.append(root);
  resizing.observe(box);
  seeing.observe(root);
  model.on("msg:custom", receive);
  const stopAsking = askAgain(() => sendTo(model, { do: "hello" }));
  const setAnswered = untilAnswered(el);
  const stopLooking = whenEnded(model, (reason) => { end = reason; schedule(); });
  return () => {
    stopLooking();
    stopAsking();
    setAnswered();
    model.off("msg:custom", receive);
    resizing.disconnect();
    seeing.disconnect();
  };
}

export default { initialize, render };
