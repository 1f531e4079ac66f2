// Shared by all widgets, besides the elements and numbers of `dom.js`.

// A widget also starts late: anywidget gives a model two seconds, and in a page that is busy for longer drops every
// message to it, although the widget appears. Then messages go to the model directly.

const NOTHING = { content: { data: { method: "none" } } };

function itself(model) {
  let found; // the model that anywidget wraps comes with its events
  const find = (own) => { found = own; };
  model.on("change:hn_started", find);
  model.set("hn_started", !model.get("hn_started"));
  model.off("change:hn_started", find);
  return found;
}

function initialize({ model }) {
  const own = itself(model);
  const { _handle_comm_msg: handle } = Object.getPrototypeOf(Object.getPrototypeOf(own));
  own._handle_comm_msg(NOTHING).catch(() => {
    own.comm?.on_msg((message) => handle.call(own, message));
    own.comm?.send({ method: "request_state" }, {}); // changes may have been dropped
  });
}

// kind of a span -> its class in style.css
const KINDS = { key: "p", plain: "p", name: "p", str: "s", num: "n", atom: "a", err: "e", "+": "x", "-": "y", "~": "z" };
const TAGS = { add: "ins", del: "del" };

const SVG = "http://www.w3.org/2000/svg"; // a name, which is never requested

const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

const iconButton = (text, label, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);

// JupyterLab ignores its shortcuts, such as "dd" for deleting a cell, in elements with this attribute. Some of
// them are for the element that has the focus, so that needs it too.
function keepKeys(element) {
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
  return element;
}

const LOOK_MS = 2000; // between two checks of the connection of a model

const NO_ANSWER = "no answer from the kernel";

// Calls `show` with "closed" when the space of a model is closed, and with `NO_ANSWER` when its kernel has ended.
// JupyterLab disconnects the model when it restarts the kernel; after a crash it only disposes the channel below it.
function whenEnded(model, show) {
  const own = itself(model);
  const look = () => {
    const isClosed = model.get("_dom_classes").includes("hn-closed");
    if (!isClosed && own?.comm_live !== false && !own?.comm?.jsServicesComm?.isDisposed) return;
    stop();
    show(isClosed ? "closed" : NO_ANSWER);
  };
  const timer = setInterval(look, LOOK_MS);
  const stop = () => {
    clearInterval(timer);
    model.off("comm_live_update", look);
    model.off("change:_dom_classes", look);
  };
  model.on("comm_live_update", look);
  model.on("change:_dom_classes", look);
  look();
  return stop;
}

const BUSY_MS = 1500; // after which a kernel that has not answered runs a cell

// Shows the static fallback instead of a widget while the kernel is too busy to send the content of the widget. Call
// the returned function when that has arrived, and at the end.
function untilAnswered(el) {
  const show = (isAnswered) => {
    el.classList.toggle("hn-alive", isAnswered); // which hides the static fallback
    el.style.display = isAnswered ? "" : "none";
  };
  const timer = setTimeout(show, BUSY_MS, false);
  return () => {
    clearTimeout(timer);
    show(true);
  };
}

// Sends a message to the kernel; returns false if that kernel has ended.
function sendTo(model, message) {
  try {
    model.send(message);
  } catch {
    return false;
  }
  return true;
}

const spans = (line) => line.map(([text, kind, title]) => h(TAGS[kind] ?? "span", { class: KINDS[kind], title }, text));
const plain = (line) => line.map(([text]) => text).join("");
const time = (ms) => (ms ? new Date(ms).toISOString().slice(11, 23) : "");
// A time of a manual clock, which may be that of another day; exact to the second, mostly.
const dateTime = (ms) => new Date(ms).toISOString().replace("T", " ").replace("Z", "").replace(".000", "");

// How long ago a moment was, in words.
function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  const units = [[86_400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? units.at(-1);
  return `${counted(Math.floor(seconds / size), unit)} ago`;
}

const FLASH_MS = 1000; // for which a changed element is highlighted

function flash(element) {
  element.classList.add("hn-fresh"); // an animation would redraw the page sixty times a second
  clearTimeout(element.flashTimer);
  element.flashTimer = setTimeout(() => element.classList.remove("hn-fresh"), FLASH_MS);
}

const newId = (name) => `hn-${name}-${Math.random().toString(36).slice(2)}`;

const isCommand = (event) => event.ctrlKey || event.metaKey || event.altKey; // of the browser, or of the page

const MAX_PRESS_MS = 500;

// A click needs a press and a release on the same element, so changes that could replace it wait that long.
function whileNotPressed(element, apply) {
  let held = null; // changes that wait while the pointer is down
  let timer = null;
  const release = () => {
    clearTimeout(timer);
    const waiting = held ?? [];
    held = null;
    waiting.forEach((each) => apply(each));
  };
  element.addEventListener("pointerdown", ({ target }) => {
    if (held || target.closest("input")) return; // a slider is pressed while it is dragged
    held = [];
    timer = setTimeout(release, MAX_PRESS_MS);
    window.addEventListener("pointerup", () => setTimeout(release), { once: true }); // after the click
  });
  return (each) => (held ? held.push(each) : apply(each));
}

const [FIRST_WAIT_MS, LONGEST_WAIT_MS] = [1000, 16_000];

// Asks repeatedly, as a message may be lost, until the returned function is called.
function askAgain(ask) {
  let timer;
  const next = (wait) => {
    ask();
    timer = setTimeout(next, wait, Math.min(2 * wait, LONGEST_WAIT_MS));
  };
  next(FIRST_WAIT_MS);
  return () => clearTimeout(timer);
}

// Paths of values, as `state.get` takes them.

const python = (step) => (typeof step === "number" ? String(step) : JSON.stringify(step));
const isPlain = (step) => typeof step === "number" || (step !== "" && !step.includes("."));

function formatPath(steps) {
  if (steps.length && steps.every(isPlain)) return steps.join(".");
  return `(${steps.map(python).join(", ")}${steps.length === 1 ? "," : ""})`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that was not loaded over a secure connection has no clipboard
    const area = h("textarea", { style: "position: fixed; opacity: 0", "aria-hidden": "true" }, text);
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
}
