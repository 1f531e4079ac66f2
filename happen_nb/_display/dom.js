// What widgets and recordings share: elements, numbers and searching. All texts become text nodes, never markup.

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

const commas = (number) => number.toLocaleString("en");
const counted = (number, noun) => `${commas(number)} ${noun}${number === 1 ? "" : "s"}`;

// How many of the sorted items there are up to a place, which each item begins with.
function countUpTo(sorted, last, placeOf = ([place]) => place) {
  let [from, until] = [0, sorted.length];
  while (from < until) {
    const middle = (from + until) >> 1;
    if (placeOf(sorted[middle]) <= last) from = middle + 1;
    else until = middle;
  }
  return from;
}
