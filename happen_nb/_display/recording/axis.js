// A time axis that leaves out long idle times.

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
