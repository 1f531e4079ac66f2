// The activity of each node in the log: how much, and when. The kernel knows the colours; the notebook has none.

const NODE_COLOURS = 8;
const RATE_MS = 10_000; // the time that a rate covers
const BINS = 30; // of a sparkline
const [SPARK_WIDTH, SPARK_HEIGHT] = [72, 16];
const [LANES, TRACK_HEIGHT] = [8, 24]; // of the marks above the slider, whose height never changes

const nodeOf = ([, , kind, , title, sender]) => (kind === "commit" ? title.slice(0, title.lastIndexOf(" · ")) : sender);

function makeActivity(entries) {
  const order = new Set(); // nodes by first appearance
  const colours = new Map(); // node -> the number of its colour
  let newest = { ms: 0, at: 0 }; // the time of the last entry, and when it came

  function add(more) {
    for (const node of more.map(nodeOf)) order.add(node);
    const last = more.at(-1);
    if (last && last[3] >= newest.ms) newest = { ms: last[3], at: performance.now() };
  }

  function learn(nodes) {
    for (const { name, colour } of nodes) colours.set(name, colour);
  }

  // The time to which rates refer: the moment shown, or now by the server's clock.
  function clock(past) {
    if (past === null) return newest.ms + performance.now() - newest.at;
    const all = entries();
    return all[countUpTo(all, past) - 1]?.[3] ?? newest.ms;
  }

  function rates(past) {
    const [now, all, counts] = [clock(past), entries(), new Map()];
    for (let at = (past === null ? all.length : countUpTo(all, past)) - 1; at >= 0; at--) {
      if (all[at][3] <= now - RATE_MS) break;
      const node = nodeOf(all[at]);
      counts.set(node, (counts.get(node) ?? 0) + 1);
    }
    return new Map([...counts].map(([node, count]) => [node, count / (RATE_MS / 1000)]));
  }

  function binned(first, last) {
    const bins = new Map();
    for (const entry of entries()) {
      const node = nodeOf(entry);
      if (!bins.has(node)) bins.set(node, new Uint16Array(BINS));
      const at = Math.floor(((entry[0] - first) / Math.max(1, last - first + 1)) * BINS);
      bins.get(node)[Math.max(0, Math.min(BINS - 1, at))]++;
    }
    return bins;
  }

  const style = (node) => {
    const number = colours.get(node) ?? null;
    return number === null ? "--hn-own: var(--hn-quiet)" : `--hn-own: var(--c${number % NODE_COLOURS})`;
  };

  function spark(node, bins) {
    const picture = s("svg", { class: "hn-spark", width: SPARK_WIDTH, height: SPARK_HEIGHT, "aria-hidden": "true", style: style(node) });
    if (!bins) return picture;
    const [step, most] = [SPARK_WIDTH / BINS, Math.max(...bins)];
    const bars = [...bins].map((count, at) => {
      const height = count ? Math.max(2, Math.round((count / most) * SPARK_HEIGHT)) : 0;
      return height ? `M${at * step} ${SPARK_HEIGHT}v${-height}h${step - 0.6}v${height}z` : "";
    });
    picture.append(s("path", { d: bars.join("") }));
    return picture;
  }

  // A lane for each of the first nodes, with a mark where it did something.
  function marks(first, last, width) {
    const lanes = [...order].slice(0, LANES);
    const columns = new Map(lanes.map((node) => [node, new Set()]));
    for (const entry of entries()) {
      columns.get(nodeOf(entry))?.add(Math.round(((entry[0] - first) / Math.max(1, last - first)) * (width - 2)));
    }
    const height = TRACK_HEIGHT / Math.max(4, lanes.length);
    const picture = s("svg", { class: "hn-marks", width, height: TRACK_HEIGHT, "aria-hidden": "true" });
    lanes.forEach((node, at) => {
      const d = [...columns.get(node)].map((column) => `M${column} ${at * height}h1.5v${height - 1}h-1.5z`);
      picture.append(s("path", { d: d.join(""), style: style(node) }));
    });
    return picture;
  }

  return { add, rates, binned, spark, marks, style, learn, clear: () => order.clear() };
}
