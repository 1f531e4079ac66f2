// The data: unpacked from the page, with the causes and effects of each record, and states on demand.

const OUTCOMES = ["done", "failed", "refused", "cancelled"];
const EXACT = "\u0001"; // starts a number that JavaScript would write differently
const KEPT_STATE = 64; // the state of each so many commits of a node is kept
const RECENT_STATES = 24;

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function sums(differences) {
  let sum = 0;
  return differences.map((difference) => (sum += difference));
}

function readModel(data) {
  const model = { ...data, handlers: data.handlers.map(([node, name, source]) => ({ node, name: name.split("<locals>.").at(-1), source })) };
  const eventTimes = sums(data.events.time), commitTimes = sums(data.commits.time);
  const started = Math.min(eventTimes[0] ?? Infinity, commitTimes[0] ?? Infinity);
  model.started = Number.isFinite(started) ? started : 0;
  model.events = readEvents(data.events, eventTimes, model);
  model.commits = readCommits(data.commits, commitTimes, model);
  model.handled = readHandled(data.handled, model.events, model.handlers);
  connect(model);
  model.moves = readMoves(data.clocks);
  model.steps = readSteps(model);
  model.until = model.steps.at(-1)?.time ?? 0;
  for (const { end } of model.handled) model.until = Math.max(model.until, end);
  model.idle = idleTimes(model);
  return model;
}

function readEvents(columns, times, model) {
  const sequences = sums(columns.sequence);
  return times.map((time, i) => ({
    kind: "event",
    time: time - model.started,
    order: [sequences[i], columns.index[i]],
    type: model.types[columns.type[i]],
    node: columns.sender[i],
    target: columns.target[i],
    cause: columns.cause[i] ? i - columns.cause[i] : -1,
    payload: columns.payload[i],
    handled: [], effects: [],
  }));
}

function readCommits(columns, times, model) {
  const sequences = sums(columns.sequence), causes = sums(columns.cause);
  const newest = new Map(model.start.map(([node, revision, , , state]) => [node, { revision, state, number: 0 }]));
  return times.map((time, i) => {
    const node = columns.node[i], previous = newest.get(node);
    const commit = {
      kind: "commit",
      time: time - model.started,
      order: [sequences[i], -1],
      node,
      revision: columns.revision[i] + (previous?.revision ?? 0),
      deleted: columns.kind[i] === 1,
      unreadable: columns.kind[i] === 2,
      cause: causes[i] - 1,
      by: columns.by[i],
      diff: columns.diff[i],
      number: previous ? previous.number + 1 : 1,
      previous,
      effects: [],
    };
    newest.set(node, commit);
    return commit;
  });
}

function readMoves(columns) { // of a manual clock: the sequence of each, and the time to which it moved, in µs
  const moments = sums(columns?.time ?? []);
  return sums(columns?.sequence ?? []).map((sequence, i) => [sequence, moments[i]]);
}

function momentOf(model, step) { // the time of a manual clock at a step, as text; nothing for a real clock
  const [sequence] = (step.event ?? step).order, { moves } = model;
  if (!moves.length) return undefined;
  const [, moment] = moves[Math.max(0, countUpTo(moves, sequence) - 1)];
  return new Date(moment / 1000).toISOString().replace("T", " ").replace("Z", "").replace(".000", "");
}

function readHandled(columns, events, handlers) {
  return sums(columns.event).map((at, i) => {
    const event = events[at], waited = Math.max(0, columns.waited[i]);
    return {
      kind: "handling",
      event,
      node: columns.node[i],
      handler: handlers[columns.handler[i]],
      outcome: OUTCOMES[columns.outcome[i]],
      error: columns.error[i],
      reply: columns.reply[i],
      replied: i in columns.reply,
      attempts: columns.attempts[i],
      waited,
      start: event.time + waited,
      end: event.time + waited + columns.took[i],
      effects: [],
    };
  });
}

function connect(model) {
  for (const handling of model.handled) handling.event.handled.push(handling);
  for (const record of [...model.commits, ...model.events]) {
    const cause = model.events[record.cause];
    if (!cause) continue;
    cause.effects.push(record);
    record.handling = handlingOf(cause, record.kind === "event" ? record.node : record.by, record.time);
    record.handling?.effects.push(record);
  }
  for (const event of model.events) event.effects.sort(inOrder);
}

function handlingOf(event, node, time) { // times come from two clocks, so they need not fit exactly
  const tolerance = 2_500;
  const ours = event.handled.filter((each) => each.node === node && each.outcome !== "refused");
  return ours.find((each) => each.start - tolerance <= time && time <= each.end + tolerance) ?? ours[0];
}

const inOrder = (a, b) => a.order[0] - b.order[0] || a.order[1] - b.order[1];

const timeOf = ({ time }) => time;

function readSteps(model) { // what the player stops at: events, commits and failures
  const failures = model.handled.filter((each) => each.outcome === "failed");
  for (const each of failures) Object.assign(each, { time: each.end, order: [Infinity, 0] });
  const records = [...model.events, ...model.commits].sort(inOrder), inserted = new Map();
  records.forEach((record, at) => (record.at = at));
  for (const failure of failures.sort((a, b) => a.time - b.time)) {
    const at = Math.max(countUpTo(records, failure.time, timeOf), failure.event.at + 1);
    if (!inserted.has(at)) inserted.set(at, []);
    inserted.get(at).push(failure);
  }
  const steps = [...records, undefined].flatMap((record, at) => [...(inserted.get(at) ?? []), ...(record ? [record] : [])]);
  let time = 0; // the clocks of a cluster may go back a little
  steps.forEach((step, at) => Object.assign(step, { at, time: (time = Math.max(time, step.time)) }));
  return steps;
}

function causesOf(step, events) { // from the first cause to the event that led to this step
  const path = [];
  let event = step.kind === "event" ? step : step.kind === "handling" ? step.event : events[step.cause];
  for (; event; event = events[event.cause]) path.push(event);
  return path.reverse();
}

// -- states ---------------------------------------------------------------------------------------------

const recent = [];

function stateOf(commit) {
  const chain = [];
  let from = commit;
  while (from && from.state === undefined) {
    chain.push(from);
    from = from.previous;
  }
  if (!chain.length) return commit.state;
  const fresh = new Set();
  let state = from ? from.state : {};
  for (const each of chain.reverse()) {
    state = applied(state, each.diff, fresh);
    if (each.number % KEPT_STATE === 0) {
      each.state = state;
      fresh.clear();
    }
  }
  commit.state = state;
  if (commit.number % KEPT_STATE) recent.push(commit);
  if (recent.length > RECENT_STATES) recent.shift().state = undefined;
  return state;
}

function applied(state, diff, fresh) { // containers in `fresh` are not shared with another state yet
  const root = [state];
  const removals = diff.filter((change) => change.length === 1).reverse();
  for (const change of [...removals, ...diff.filter((each) => each.length > 1)]) {
    const path = [0, ...change[0]];
    let part = root;
    for (const step of path.slice(0, -1)) part = own(part, step, fresh);
    alter(part, path.at(-1), change);
  }
  return root[0];
}

function own(part, step, fresh) {
  const inner = lookUp(part, step);
  if (fresh.has(inner)) return inner;
  const copy = Array.isArray(inner) ? inner.slice() : { ...inner };
  fresh.add(copy);
  define(part, step, copy);
  return copy;
}

function alter(part, key, [, after, isNew]) {
  if (after === undefined) Array.isArray(part) ? part.splice(key, 1) : delete part[key];
  else if (isNew && Array.isArray(part)) part.splice(key, 0, after);
  else define(part, key, after);
}

// A key may be called __proto__: it is defined, and only own keys are read.
const define = (part, key, value) => Object.defineProperty(part, key, { value, writable: true, enumerable: true, configurable: true });
const lookUp = (part, key) => (part !== null && typeof part === "object" && Object.hasOwn(part, key) ? part[key] : undefined);
const lookUpPath = (value, path) => path.reduce(lookUp, value);

// -- idle times -----------------------------------------------------------------------------------------

function idleTimes(model) {
  const spans = [
    ...model.steps.map((each) => [each.time, each.time]),
    ...model.handled.map((each) => [each.event.time, each.end]),
  ].sort((a, b) => a[0] - b[0]);
  const idle = [];
  let end = spans[0]?.[1] ?? 0;
  for (const [start, until] of spans) {
    if (start > end) idle.push({ from: end, to: start });
    end = Math.max(end, until);
  }
  return idle;
}
