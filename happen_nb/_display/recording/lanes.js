// The lanes: who did what when. A page of records is painted once; then only the playhead moves over it.

const PAGE_STEPS = 44;
const LEAST_IN_GROUP = 5; // names that differ in a number share a lane from here on
const CLOCK_ROOM = 120; // pixels from one time of a manual clock to the next
const TOP = 22, BOTTOM = 24; // pixels for texts above and below the lanes
const LANE_HEIGHTS = [[10, 42], [18, 32], [Infinity, 26]]; // of so many lanes

function lanesOf(model, opened) {
  const order = nodesInOrder(model), groups = groupsOf(model, order), lanes = [], seen = new Set();
  for (const node of order) {
    const stem = stemOf(model.nodes[node]), members = groups.get(stem);
    if (!members) {
      lanes.push({ name: model.nodes[node], nodes: [node] });
    } else if (!seen.has(stem)) {
      seen.add(stem);
      lanes.push({ name: `${stem}*`, nodes: members, stem });
      if (opened.has(stem)) lanes.push(...members.map((member) => ({ name: model.nodes[member], nodes: [member], of: stem })));
    }
  }
  const { colours = [] } = model; // the number of each node; -1, or nothing in older files: the next one in turn
  let next = Math.max(-1, ...colours) + 1;
  for (const lane of lanes) {
    const [number = -1] = colours.slice(lane.nodes[0]);
    if (lane.name === "notebook") lane.colour = "person";
    else if (lane.of) lane.colour = lanes.find((other) => other.stem === lane.of).colour;
    else lane.colour = `node${(number < 0 ? next++ : number) % NODE_COLOURS}`;
  }
  return lanes;
}

function nodesInOrder(model) { // of first appearance; nodes that only commit come last
  const first = new Map();
  const see = (node, time) => first.set(node, Math.min(time, first.get(node) ?? Infinity));
  for (const event of model.events) see(event.node, event.time - 0.5);
  for (const handling of model.handled) see(handling.node, handling.start);
  const quiet = new Map();
  for (const commit of model.commits) if (!first.has(commit.node) && !quiet.has(commit.node)) quiet.set(commit.node, commit.time);
  const sorted = (times) => [...times.keys()].sort((a, b) => times.get(a) - times.get(b));
  return [...sorted(first), ...sorted(quiet)];
}

const stemOf = (name) => /^(.*?)\d+$/.exec(name)?.[1];

function groupsOf(model, nodes) {
  const groups = new Map();
  for (const node of nodes) {
    const stem = stemOf(model.nodes[node]);
    if (stem !== undefined) groups.set(stem, [...(groups.get(stem) ?? []), node]);
  }
  const number = (node, stem) => Number(model.nodes[node].slice(stem.length));
  for (const [stem, members] of groups) {
    if (members.length < LEAST_IN_GROUP) groups.delete(stem);
    else members.sort((a, b) => number(a, stem) - number(b, stem));
  }
  return groups;
}

class Lanes {
  constructor(model, box) {
    this.model = model;
    this.box = box;
    this.screen = box.querySelector("canvas");
    this.opened = new Set();
    this.arrange();
  }

  arrange() {
    this.lanes = lanesOf(this.model, this.opened);
    this.height = LANE_HEIGHTS.find(([most]) => this.lanes.length <= most)[1];
    this.places = new Map();
    this.lanes.forEach((lane, row) => lane.nodes.forEach((node, member) => {
      const share = lane.stem && lane.nodes.length > 1 ? member / (lane.nodes.length - 1) : undefined;
      if (!lane.stem || !this.opened.has(lane.stem)) this.places.set(node, { lane, row, share });
    }));
    this.page = undefined;
  }

  colourOf(node) { return this.places.get(node)?.lane.colour ?? "person"; }

  toggle(stem) {
    if (!this.opened.delete(stem)) this.opened.add(stem);
    this.arrange();
  }

  // -- places

  y(node, part) { // part: 0 events, 1 handlings, 2 commits
    const { row, share } = this.places.get(node), top = row * this.height;
    return share === undefined ? top + this.height * [0.17, 0.49, 0.83][part] : top + 3 + share * (this.height - 6);
  }

  spot(step) {
    const part = { event: 0, handling: 1, commit: 2 }[step.kind];
    return [this.axis.x(step.kind === "handling" ? step.start : step.time), this.y(step.node, part)];
  }

  nearest(x, y) { // the step of this page that is nearest to a point
    let best, least = Infinity;
    for (const step of this.steps) {
      const spot = this.spot(step), distance = Math.hypot(spot[0] - x, 1.5 * (spot[1] - y));
      if (distance < least) [best, least] = [step, distance];
    }
    return best;
  }

  // -- a page

  turnTo(page) {
    const { model } = this, all = model.steps;
    this.page = page;
    this.colours = readColours();
    const first = Math.max(0, Math.min(page * PAGE_STEPS, all.length - PAGE_STEPS)); // the last page is full, too
    this.steps = all.slice(first, (page + 1) * PAGE_STEPS + 4);
    const room = this.box.clientWidth, gutter = Math.round(Math.min(170, Math.max(104, room * 0.13)));
    const width = Math.max(60, room - gutter - 14);
    this.axis = timeAxis(model.idle, this.steps[0].time, this.steps.at(-1).time, width);
    this.size = [width, this.lanes.length * this.height];
    this.box.style.height = `${this.size[1] + TOP + BOTTOM}px`;
    this.screen.style.left = `${gutter}px`;
    this.screen.style.top = `${TOP}px`;
    canvas(this.screen, ...this.size);
    this.paint();
    this.label(gutter);
  }

  paint() {
    this.picture = document.createElement("canvas");
    const [width, height] = this.size, pen = canvas(this.picture, width, height), { axis, colours } = this;
    pen.fillStyle = colours.back;
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = colours.hair;
    this.ticks = this.model.moves.length ? this.clockTicks() : axis.ticks(width < 640 ? 90 : 120);
    for (const tick of this.ticks) pen.fillRect(Math.round(tick.x), 0, 1, height);
    this.lanes.forEach((_, row) => row && pen.fillRect(0, row * this.height, width, 1));
    const visible = this.model.handled.filter((each) => this.places.has(each.node) && each.outcome !== "refused"
      && each.end >= axis.from && each.event.time <= axis.until);
    const busy = new Map();
    for (const handling of visible) this.paintWaiting(pen, handling, busy);
    for (const handling of visible) this.paintHandling(pen, handling);
    for (const step of this.steps) if (step.kind !== "handling") this.paintStep(pen, step);
    for (const cut of axis.cuts) this.paintCut(pen, cut);
  }

  clockTicks() { // a manual clock stands still most of the time: a label is where the first step of a time is
    const ticks = [];
    let [last, before] = [-Infinity, undefined];
    for (const step of this.steps) {
      const text = momentOf(this.model, step).slice(0, 16), x = this.axis.x(step.time); // to the minute
      if (text === before || x - last < CLOCK_ROOM) continue;
      ticks.push({ x, text });
      [last, before] = [x, text];
    }
    return ticks;
  }

  paintWaiting(pen, handling, busy) { // below the bar of what the node does meanwhile
    const { axis } = this, { node, event, start } = handling;
    const left = axis.x(Math.max(axis.from, event.time)), right = axis.x(Math.max(axis.from, Math.min(axis.until, start)));
    const below = (busy.get(node) ?? -Infinity) > event.time && this.places.get(node).share === undefined;
    busy.set(node, Math.max(busy.get(node) ?? -Infinity, handling.end));
    if (right - left < 1.5) return;
    const y = this.y(node, 1) + (below ? this.height * 0.22 : 0);
    pen.globalAlpha = 0.55;
    pen.fillStyle = this.colours[this.colourOf(node)];
    pen.fillRect(left, y - 0.75, right - left, 1.5);
    pen.fillRect(left, y - 2.5, 1, 5);
    pen.globalAlpha = 1;
  }

  paintHandling(pen, handling) {
    const { axis, colours } = this, colour = colours[this.colourOf(handling.node)], y = this.y(handling.node, 1);
    const left = axis.x(Math.max(axis.from, handling.start));
    const right = Math.max(left + 2, axis.x(Math.min(axis.until, handling.end)));
    const thick = this.places.get(handling.node).share === undefined ? Math.round(this.height * 0.3) : 2;
    if (right - left > 3 && thick > 2) {
      pen.beginPath();
      pen.roundRect(left + 0.5, y - thick / 2, right - left - 1, thick, 2.5);
      pen.fillStyle = colours.back;
      pen.fill();
      pen.globalAlpha = 0.24;
      pen.fillStyle = colour;
      pen.fill();
      pen.globalAlpha = 1;
      pen.lineWidth = 1;
      pen.strokeStyle = colour;
      pen.stroke();
    } else {
      pen.fillStyle = colour;
      pen.fillRect(left, y - thick / 2, right - left, thick);
    }
    if (handling.outcome === "failed") cross(pen, right, y, colours.error);
  }

  paintStep(pen, step) {
    const [x, y] = this.spot(step), small = this.places.get(step.node).share !== undefined;
    pen.fillStyle = this.colours[this.colourOf(step.node)];
    if (step.kind === "event") dot(pen, x, y, small ? 2 : 3.4);
    else pen.fillRect(Math.round(x) - 2.5, y - (small ? 1 : 2.5), small ? 3 : 5, small ? 2 : 5);
  }

  paintCut(pen, cut) {
    const height = this.size[1];
    pen.fillStyle = this.colours.back;
    pen.fillRect(cut.left + 2, 0, CUT_WIDTH - 4, height);
    pen.strokeStyle = this.colours.faint;
    pen.setLineDash([2, 3]);
    for (const x of [cut.left + 2.5, cut.right - 2.5]) line(pen, x, 0, x, height);
    pen.setLineDash([]);
  }

  label(gutter) {
    const [width, height] = this.size;
    $("names").replaceChildren(...this.lanes.map((lane, row) => {
      const texts = [h("i"), h("span", null, lane.of ? `  ${lane.name}` : lane.name)];
      if (lane.stem) texts.push(h("span", { class: "members" }, `${commas(lane.nodes.length)} ${this.opened.has(lane.stem) ? "▾" : "▸"}`));
      const title = lane.stem ? `${counted(lane.nodes.length, "node")}: a click opens or closes them` : lane.name;
      const about = { title, "aria-expanded": lane.stem ? String(this.opened.has(lane.stem)) : null, type: lane.stem ? "button" : null };
      const label = h(lane.stem ? "button" : "span", about, texts);
      if (lane.stem) label.dataset.stem = lane.stem;
      label.style.top = `${TOP + row * this.height + this.height / 2 - 10}px`;
      label.style.maxWidth = `${gutter - 16}px`;
      label.style.setProperty("--node", `var(--${lane.colour})`);
      return label;
    }));
    const texts = this.ticks
      .filter(({ x }) => x > 24 && x < width - 24)
      .map((tick) => ({ ...tick, y: TOP + height + 3 }));
    texts.push(...cutLabels(this.axis).map((each) => ({ ...each, y: 2 })));
    $("axis").replaceChildren(...texts.map(({ x, y, text }) => {
      const label = h("span", null, text);
      label.style.left = `${gutter + x}px`;
      label.style.top = `${y}px`;
      return label;
    }));
  }

  // -- the playhead

  show(step, time) {
    const page = Math.floor(step.at / PAGE_STEPS);
    if (page !== this.page) this.turnTo(page);
    const pen = copyOnto(this.screen, this.picture), { axis, colours } = this, [width, height] = this.size;
    const x = axis.x(Math.max(axis.from, Math.min(axis.until, time)));
    pen.globalAlpha = 0.68; // what is still to come
    pen.fillStyle = colours.back;
    pen.fillRect(x + 1, 0, width - x, height);
    pen.globalAlpha = 1;
    pen.fillStyle = colours.text;
    pen.fillRect(x - 0.75, 0, 1.5, height);
    this.showCauses(pen, step);
    pen.lineWidth = 2;
    const spot = this.spot(step);
    pen.beginPath();
    pen.arc(spot[0], spot[1], 7, 0, 7);
    pen.stroke();
  }

  showCauses(pen, step) {
    pen.strokeStyle = pen.fillStyle = this.colours.accent;
    pen.lineWidth = 1.5;
    const path = causesOf(step, this.model.events);
    path.forEach((event, index) => {
      const last = index === path.length - 1;
      const handling = last ? (step.kind === "handling" ? step : step === event ? null : step.handling) : path[index + 1].handling;
      if (handling) this.showCause(pen, event, handling);
      dot(pen, ...this.spot(event), 3.8);
    });
  }

  showCause(pen, event, handling) {
    const [x0, y0] = this.spot(event), [x1, y1] = this.spot(handling);
    const bend = Math.max(-30, Math.min(50, (x1 - x0) / 2)), thick = Math.round(this.height * 0.3) + 1;
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
    pen.stroke();
    pen.strokeRect(x1, y1 - thick / 2, Math.max(2, this.axis.x(Math.min(this.axis.until, handling.end)) - x1), thick);
  }
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
}

function line(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

function cross(pen, x, y, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  line(pen, x - 4, y - 4, x + 4, y + 4);
  line(pen, x + 4, y - 4, x - 4, y + 4);
  pen.lineWidth = 1;
}

// -- the time axis, which leaves out long idle times --------------------------------------------------

const CUT_WIDTH = 22;
const LEAST_PER_CUT = 90; // pixels of the axis for each cut
const IDLE_SHARE = 0.07; // of the time shown; a longer idle time is cut out
const KEPT_SHARE = 0.03; // of the time shown; this much of an idle time stays

const MARGIN_SHARE = 0.03; // of the time shown, on both sides
const LEAST_MARGIN = 300; // µs

function timeAxis(idle, first, last, width) {
  const parts = [];
  const busy = chooseCuts(idle, first, last, width).reduce((sum, cut) => sum - cut.until + cut.from, last - first);
  const margin = Math.max(LEAST_MARGIN, busy * MARGIN_SHARE), from = first - margin, until = last + margin;
  const cuts = chooseCuts(idle, from, until, width);
  const shown = until - from - cuts.reduce((sum, cut) => sum + cut.until - cut.from, 0);
  const perTime = (width - CUT_WIDTH * cuts.length) / (shown || 1);
  let time = from, x = 0;
  for (const cut of [...cuts, { from: until, until }]) {
    const end = x + (cut.from - time) * perTime;
    parts.push({ from: time, until: cut.from, left: x, right: end });
    if (cut.from === until) break;
    parts.push({ ...cut, left: end, right: end + CUT_WIDTH, isCut: true });
    [time, x] = [cut.until, end + CUT_WIDTH];
  }
  const between = (value, start, end, first, last) => {
    const part = parts[Math.max(0, countUpTo(parts, value, (each) => each[start]) - 1)];
    const share = (value - part[start]) / (part[end] - part[start] || 1);
    return part[first] + share * (part[last] - part[first]);
  };
  return {
    from, until, width,
    cuts: parts.filter((part) => part.isCut),
    x: (value) => between(value, "from", "until", "left", "right"),
    time: (value) => between(value, "left", "right", "from", "until"),
    ticks: (room) => ticksOf(parts, perTime, room),
  };
}

function chooseCuts(idle, from, until, width) {
  const inside = idle
    .map((each) => ({ from: Math.max(each.from, from), until: Math.min(each.to, until) }))
    .map((each) => ({ ...each, length: each.until - each.from }))
    .filter((each) => each.length > 0)
    .sort((a, b) => b.length - a.length);
  const cuts = [], most = Math.max(1, Math.floor(width / LEAST_PER_CUT));
  let shown = until - from;
  for (const each of inside) {
    if (cuts.length >= most || each.length < IDLE_SHARE * shown) break;
    const kept = KEPT_SHARE * (shown - each.length);
    if (each.length <= kept) break;
    cuts.push({ from: each.from + kept / 2, until: each.until - kept / 2, length: each.length });
    shown -= each.length - kept;
  }
  return cuts.sort((a, b) => a.from - b.from);
}

function ticksOf(parts, perTime, room) {
  const least = room / perTime, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= least);
  const ticks = [];
  let last = -Infinity;
  for (const part of parts) {
    if (part.isCut || !Number.isFinite(step)) continue;
    for (let time = Math.max(0, Math.ceil(part.from / step)) * step; time <= part.until; time += step) {
      const x = part.left + (time - part.from) * perTime;
      if (x - last < room * 0.7) continue;
      ticks.push({ x, text: time ? `+${tickText(time, step)}` : "0" });
      last = x;
    }
  }
  return ticks;
}

function tickText(time, step) { // with as many digits as the step needs
  if (time >= 60e6 && step >= 1e6) return duration(time);
  const [unit, name] = time < 1e3 ? [1, "µs"] : time < 1e6 ? [1e3, "ms"] : [1e6, "s"];
  return `${(time / unit).toFixed(Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9)))} ${name}`;
}

const TEXT_WIDTH = 6.9; // pixels of a character, at most

function cutLabels(axis) { // labels that would touch become one
  const labels = [];
  for (const cut of axis.cuts) {
    const x = (cut.left + cut.right) / 2, text = duration(cut.length), before = labels.at(-1);
    const half = (label) => (label.length * TEXT_WIDTH) / 2;
    if (before && x - half(`⋯ ${text}`) < before.x + half(before.text) + 8) {
      before.text += `, ${text}`;
      before.x = (before.first + x) / 2;
    } else labels.push({ x, first: x, text: `⋯ ${text}` });
  }
  for (const label of labels) { // inside the picture
    const half = (label.text.length * TEXT_WIDTH) / 2;
    label.x = Math.max(half, Math.min(axis.width - half, label.x));
  }
  return labels;
}

// -- canvases, in the colours of the page -------------------------------------------------------------

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
