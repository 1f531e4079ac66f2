// Values over time, each of which holds until the next: [ms, value] in order; null is a gap.

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
