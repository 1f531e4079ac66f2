// Texts, and canvases in the colours of the page.

const $ = (id) => document.getElementById(id);

const cut = (text, room) => (text.length <= room ? text : `${text.slice(0, room - 1)}…`);

function duration(us) {
  if (us < 999.5) return `${Math.round(us)} µs`;
  if (us < 999_500) return `${Number((us / 1e3).toPrecision(us < 9_950 ? 2 : 3))} ms`;
  if (us < 60e6) return `${Number((us / 1e6).toPrecision(3))} s`;
  if (us < 3_600e6) return `${Math.floor(us / 60e6)} min ${Math.round((us % 60e6) / 1e6)} s`;
  if (us < 86_400e6) return `${Math.floor(us / 3_600e6)} h ${Math.round((us % 3_600e6) / 60e6)} min`;
  return `${Number((us / 86_400e6).toPrecision(3))} days`;
}

function canvas(element, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  element.width = Math.round(width * ratio);
  element.height = Math.round(height * ratio);
  element.style.width = `${width}px`;
  element.style.height = `${height}px`;
  const context = element.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

function copyOnto(target, source) {
  const context = target.getContext("2d");
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(source, 0, 0);
  context.restore();
  return context;
}

const COLOURS = ["back", "raised", "line", "hair", "text", "quiet", "faint", "accent", "error"];
const NODE_COLOURS = 8;

function readColours() { // a canvas knows no variables
  const style = getComputedStyle(document.documentElement);
  const names = [...COLOURS, "person", ...Array.from({ length: NODE_COLOURS }, (_, number) => `node${number}`)];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
