// What is known about a record, states as trees, and texts.

const MAX_SHOWN = 12; // items of a container
const MAX_DEPTH = 5;
const MAX_TEXT = 400;
const MAX_LINKS = 8;

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

// -- values ---------------------------------------------------------------------------------------------

const isContainer = (value) => value !== null && typeof value === "object";

function scalar(value, room = MAX_TEXT) {
  if (value === undefined) return h("span", { class: "quiet" }, "nothing");
  if (value === null || typeof value === "boolean") return h("span", { class: "atom" }, { null: "None", true: "True", false: "False" }[String(value)]);
  if (typeof value === "number") return h("span", { class: "number" }, String(value));
  if (value.startsWith(EXACT) && !value.startsWith(EXACT + EXACT)) return h("span", { class: "number" }, value.slice(1));
  return h("span", { class: "string" }, cut(JSON.stringify(value.startsWith(EXACT) ? value.slice(1) : value), room));
}

const name = (key, room) => h("bdi", null, cut(key, room) || '""');

function brief(value, room = 40) { // a value in one line
  if (!isContainer(value)) return scalar(value, room);
  const keys = Object.keys(value), isList = Array.isArray(value);
  if (!keys.length) return h("span", { class: "quiet" }, isList ? "[]" : "{}");
  const flat = keys.length <= 4 && keys.every((key) => !isContainer(value[key]));
  const inner = flat ? keys.flatMap((key, i) => [i ? ", " : "", ...(isList ? [] : [name(key, 24), ": "]), scalar(value[key], 16)]) : [counted(keys.length, isList ? "item" : "key")];
  return h("span", { class: "quiet" }, isList ? "[" : "{", inner, isList ? "]" : "}");
}

function tree(value, marks = new Map(), depth = 0) { // marks: key -> the marks below it, or "new"
  const isList = Array.isArray(value), keys = Object.keys(value);
  const shown = keys.filter((key, index) => index < MAX_SHOWN || marks.has(key)).slice(0, 2 * MAX_SHOWN);
  const items = shown.map((key) => {
    const inner = value[key], mark = marks.get(key), below = mark instanceof Map ? mark : undefined;
    const label = isList ? h("span", { class: "quiet" }, key) : name(key, 60);
    const opens = isContainer(inner) && Object.keys(inner).length > 0 && depth < MAX_DEPTH && (below || !isShort(inner));
    const text = opens ? null : brief(inner);
    if (mark === "new" && text) text.classList.add("new");
    return h("li", null, label, " ", text, mark === "new" && opens && h("span", { class: "new" }, "new"), opens && tree(inner, below, depth + 1));
  });
  if (shown.length < keys.length) items.push(h("li", { class: "quiet" }, `… ${commas(keys.length - shown.length)} more`));
  return h("ul", null, items);
}

const isShort = (value) => {
  const parts = Object.values(value);
  return parts.length <= 4 && parts.every((part) => !isContainer(part) && String(part).length <= 12);
};

function marksOf(diff) { // what a commit added or changed
  const marks = new Map();
  for (const [path, after] of diff) {
    if (after === undefined) continue;
    let at = marks;
    for (const step of path.slice(0, -1).map(String)) {
      if (at.get(step) === "new") break;
      if (!at.has(step)) at.set(step, new Map());
      at = at.get(step);
    }
    at.set(String(path.at(-1)), "new");
  }
  return marks;
}

function diffList(commit) {
  const before = commit.previous ? stateOf(commit.previous) : {};
  const rows = commit.diff.slice(0, MAX_SHOWN).map(([path, after, isNew]) => {
    const sign = after === undefined ? "−" : isNew ? "+" : "~";
    const old = after !== undefined && isNew ? null : brief(lookUpPath(before, path));
    const fresh = after === undefined ? null : brief(after);
    old?.classList.add("old");
    fresh?.classList.add("new");
    return h("li", null, `${sign} ${cut(path.join("."), 80)} `, old, old && fresh && " → ", fresh);
  });
  if (commit.diff.length > MAX_SHOWN) rows.push(h("li", { class: "quiet" }, `… ${commas(commit.diff.length - MAX_SHOWN)} more`));
  return h("ul", { class: "diff" }, rows);
}

// -- code -----------------------------------------------------------------------------------------------

const TOKENS = /(#[^\n]*)|("""[^]*?"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|\b(def|async|await|return|if|else|elif|for|in|not|and|or|lambda|while|try|except|finally|with|as|import|from|yield|raise|None|True|False|is|class|pass|match|case)\b|\b(\d+(?:\.\d+)?)\b/g;
const KINDS = ["comment", "string", "atom", "number"];

function code(source) {
  const pre = h("pre", { tabindex: 0, "aria-label": "Source of the handler" });
  let at = 0;
  for (const hit of source.matchAll(TOKENS)) {
    const kind = KINDS[hit.slice(1).findIndex((group) => group !== undefined)];
    pre.append(source.slice(at, hit.index), h("span", { class: kind }, hit[0]));
    at = hit.index + hit[0].length;
  }
  pre.append(source.slice(at));
  return pre;
}

// -- the current record ---------------------------------------------------------------------------------

class Details {
  constructor(model, go) {
    this.model = model;
    this.go = go;
  }

  name(node) { return this.model.nodes[node]; }

  clock(step) {
    return momentOf(this.model, step) ?? new Date((this.model.started + step.time) / 1000).toISOString().slice(11, 23);
  }

  of(step) {
    const about = { event: this.ofEvent, commit: this.ofCommit, handling: this.ofFailure }[step.kind].call(this, step);
    const handling = step.kind === "handling" ? step : step.handling;
    const causes = causesOf(step, this.model.events).filter((event) => event !== step);
    const effects = step.kind === "event" ? step.effects : [];
    return [
      about,
      handling && this.ofHandling(handling),
      causes.length > 0 && [h("h3", null, "Caused by"), this.links(causes.slice(-MAX_LINKS))],
      effects.length > 0 && [h("h3", null, "Led to"), this.links(effects)],
    ];
  }

  ofEvent(event) {
    const target = event.target < 0 ? "all" : this.name(event.target);
    const handled = event.handled.filter((each) => each.outcome !== "refused");
    return [
      h("h2", null, event.type),
      h("p", { class: "quiet" }, `${this.name(event.node)} → ${target} · ${this.clock(event)} UTC`),
      event.payload !== null && h("div", { class: "tree" }, isContainer(event.payload) ? tree(event.payload) : scalar(event.payload)),
      h("h3", null, handled.length ? `Handled by ${counted(handled.length, "handler")}` : "No handler"),
      h("ul", null, handled.slice(0, MAX_LINKS).map((each) => h("li", null, this.summary(each))), this.more(handled)),
    ];
  }

  summary(handling) {
    const reply = handling.replied && [" · replied ", brief(handling.reply)];
    const failed = handling.outcome !== "done" && h("span", { class: "error" }, ` × ${handling.outcome}`);
    return [`${this.name(handling.node)} · ${handling.handler.name} · waited ${duration(handling.waited)} · took ${duration(handling.end - handling.start)}`, reply, failed];
  }

  ofCommit(commit) {
    const nothing = commit.deleted ? "The node was deleted." : commit.unreadable ? "Its state cannot be read." : "Nothing changed.";
    return [
      h("h2", null, `${this.name(commit.node)} · revision ${commas(commit.revision)}`),
      h("p", { class: "quiet" }, `${commit.by < 0 ? "by the notebook" : `by ${this.name(commit.by)}`} · ${this.clock(commit)} UTC`),
      commit.diff.length && !commit.deleted ? diffList(commit) : h("p", { class: "quiet" }, nothing),
    ];
  }

  ofFailure(handling) {
    return [
      h("h2", { class: "error" }, `× ${this.name(handling.node)} failed`),
      h("p", { class: "quiet" }, `${handling.event.type} · ${counted(handling.attempts, "attempt")} · ${this.clock(handling)} UTC`),
      h("p", { class: "error mono" }, cut(handling.error ?? "", MAX_TEXT)),
    ];
  }

  ofHandling(handling) {
    const { handler, event } = handling;
    return [
      h("h3", null, `Handler ${handler.name} of ${this.name(handling.node)}, on ${event.type}`),
      h("p", { class: "quiet" }, `waited ${duration(handling.waited)} · took ${duration(handling.end - handling.start)}`),
      handler.source && code(handler.source),
    ];
  }

  links(records) {
    return h("ul", null, records.slice(0, MAX_LINKS).map((record) => {
      const text = record.kind === "event" ? record.type : `revision ${commas(record.revision)}`;
      const link = h("button", { type: "button", class: "link", onclick: () => this.go(record.at) }, cut(text, 60));
      return h("li", null, link, h("span", { class: "quiet" }, ` ${this.name(record.node)} +${duration(record.time)}`));
    }), this.more(records));
  }

  more(records) {
    return records.length > MAX_LINKS && h("li", { class: "quiet" }, `… ${commas(records.length - MAX_LINKS)} more`);
  }
}
