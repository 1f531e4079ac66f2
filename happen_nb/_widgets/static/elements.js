// Helpers that make elements. Whatever comes from the kernel becomes text, never markup.

// kind of a span -> its class in style.css
const KINDS = { key: "p", plain: "p", name: "p", str: "s", num: "n", atom: "a", err: "e", "+": "x", "-": "y", "~": "z" };
const TAGS = { add: "ins", del: "del" };

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const h = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

// JupyterLab ignores its shortcuts, such as "dd" for deleting a cell, in elements with this attribute. Some of
// them are for the element that has the focus, so that needs it too.
function keepKeys(element) {
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
  return element;
}

// Send a message to the kernel; return false if the one that it is for has ended.
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


// How long before now a moment was, as a person says it.
function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  const units = [[86_400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, unit] = units.find(([size]) => seconds >= size) ?? units.at(-1);
  const count = Math.floor(seconds / size);
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}

const FLASH_MS = 1000; // for which a changed element is highlighted

function flash(element) {
  element.classList.add("hn-fresh"); // an animation would redraw the page sixty times a second
  clearTimeout(element.flashTimer);
  element.flashTimer = setTimeout(() => element.classList.remove("hn-fresh"), FLASH_MS);
}

const newId = (name) => `hn-${name}-${Math.random().toString(36).slice(2)}`;

const SVG = "http://www.w3.org/2000/svg"; // a name, which is never requested

const s = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// How many entries there are up to a position or a moment, which each entry begins with.
function countUpTo(sorted, last) {
  let [from, until] = [0, sorted.length];
  while (from < until) {
    const middle = (from + until) >> 1;
    if (sorted[middle][0] <= last) from = middle + 1;
    else until = middle;
  }
  return from;
}
