// The log: only the rows in sight are elements.

const ROW = 22; // pixels of a row of the log
const KEPT = 10_000; // rows of the log

function makeLog(tell, goTo) {
  let entries = []; // [sequence, index, kind, ms, what, from, to, preview]
  let fitting = []; // those that the filter lets through
  let shown = []; // and that have happened
  let selected = null;
  let limit = Infinity; // what is after it has not happened yet
  let waiting = false;
  let following = true; // whether the newest is kept in sight: only a person's scrolling ends that
  let placed = 0; // where the box was scrolled to last
  let height = 0; // of the box when it was drawn last; none while it is hidden
  let unseen = 0; // entries that have come since it does not follow
  const asked = new Set();
  const id = newId("entry");

  const placeholder = "filter: order.* paid";
  const searching = { type: "search", placeholder, "aria-label": "Filter the log" };
  const filter = h("input", { ...searching, oninput: refilter });
  const commits = h("input", { type: "checkbox", checked: true, onchange: refilter });
  const count = h("span", { class: "hn-quiet", role: "status" });
  const rows = h("div", { class: "hn-rows" });
  const earlier = h("button", { class: "hn-more", onclick: () => tell({ do: "earlier" }) }, "load earlier");
  const toNewest = h("button", { class: "hn-newest", hidden: true, onclick: follow });
  const list = { role: "listbox", tabindex: 0 };
  const events = { onscroll: scrolled, onkeydown: keys };
  const box = h("div", { class: "hn-log", "aria-label": "Events and commits", ...list, ...events }, rows);
  const text = h("pre", { class: "hn-detail", tabindex: 0 });
  const moment = h("button", { onclick: () => selected && goTo(selected[0]) }, "show this moment");
  const detail = h("div", { hidden: true }, moment, text);

  const line = ([, , , ms, what]) => `${time(ms)} UTC · ${what}`;
  const same = (one, other) => one?.[0] === other?.[0] && one?.[1] === other?.[1];
  const words = ([, , , , ...texts]) => [...texts.slice(0, 3), plain(texts[3] ?? [])].join(" ").toLowerCase();
  const literal = (part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&");
  const pattern = (word) => new RegExp(word.split("*").map(literal).join(".*"));

  function test() {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(pattern);
    return (entry) =>
      (commits.checked || entry[2] === "event") &&
      (!wanted.length || wanted.every((word) => word.test(words(entry))));
  }

  function refilter() {
    fitting = entries.filter(test());
    cut();
    soon();
  }

  function cut() {
    shown = limit === Infinity ? fitting : fitting.slice(0, after(fitting, limit));
  }

  function after(some, sequence) { // how many are not after it: they stand in their order
    let [from, until] = [0, some.length];
    while (from < until) {
      const middle = (from + until) >> 1;
      if (some[middle][0] <= sequence) from = middle + 1;
      else until = middle;
    }
    return from;
  }

  function add(more, { first = false } = {}) {
    const newest = entries.at(-1);
    const isLater = ([s, i]) => !newest || s > newest[0] || (s === newest[0] && i > newest[1]);
    const fresh = first ? more : more.filter(isLater);
    entries = first ? [...fresh, ...entries] : [...entries, ...fresh];
    const gone = Math.max(0, entries.length - KEPT);
    const lost = gone && !first ? after(shown, entries[gone - 1][0]) : 0;
    const kept = shown.length - lost;
    if (first || gone) fitting = (entries = entries.slice(gone)).filter(test());
    else fitting.push(...fresh.filter(test()));
    cut();
    const added = Math.max(0, shown.length - kept);
    if (!following) shift(first ? added : -lost);
    if (!following && !first) unseen += added;
    soon();
  }

  function shift(by) { // what is in sight stays there though rows before it come or go
    rows.style.height = `${Math.max(1, shown.length) * ROW}px`;
    box.scrollTop += by * ROW;
    placed = box.scrollTop;
  }

  function follow() {
    following = true;
    soon();
  }

  function scrolled() {
    // what is hidden, shown again or shrunk is scrolled by the browser, and not by a person
    const byHand = box.clientHeight && box.clientHeight === height && Math.abs(box.scrollTop - placed) > 1;
    if (byHand) following = isAtEnd();
    soon();
  }

  const isAtEnd = () => box.scrollTop + box.clientHeight >= shown.length * ROW - ROW;

  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    waiting = false;
    height = box.clientHeight;
    rows.style.height = `${Math.max(1, shown.length) * ROW}px`;
    if (following) {
      box.scrollTop = shown.length * ROW;
      unseen = 0;
    }
    placed = box.scrollTop;
    toNewest.hidden = following;
    toNewest.textContent = unseen ? `${unseen.toLocaleString("en")} new, go to newest` : "go to newest";
    const from = Math.max(0, Math.floor(box.scrollTop / ROW) - 3);
    const until = Math.min(shown.length, from + Math.ceil(box.clientHeight / ROW) + 6);
    rows.replaceChildren(...shown.slice(from, until).map((entry, at) => row(entry, from + at)));
    rows.style.paddingTop = `${from * ROW}px`;
    if (rows.querySelector(`#${id}`)) box.setAttribute("aria-activedescendant", id);
    else box.removeAttribute("aria-activedescendant");
    const [some, total] = [shown.length.toLocaleString("en"), entries.length.toLocaleString("en")];
    count.textContent = some === total ? total : `${some} of ${total}`;
    peek(shown.slice(from, until));
  }

  function row(entry, at) {
    const [sequence, index, kind, ms, what, from, to, preview] = entry;
    const chosen = same(entry, selected);
    const who = kind === "event" ? `${from} → ${to ?? "all"}` : from ? `by ${from}` : "";
    const attributes = { class: `hn-entry hn-${kind}`, role: "option", "aria-selected": String(chosen) };
    const choose = () => select(at); // when it is pressed: scrolling makes rows anew, and then there is no click
    const made = h("div", { ...attributes, id: chosen ? id : null, onmousedown: choose });
    made.append(h("time", {}, time(ms)), h("b", {}, what), h("span", { class: "hn-quiet" }, who));
    made.append(h("span", {}, ...spans(preview ?? [])));
    return made;
  }

  function peek(visible) {
    const wanted = visible.filter((e) => e[2] === "event" && e[7] === null && !asked.has(`${e[0]}.${e[1]}`));
    if (!wanted.length) return;
    wanted.forEach((e) => asked.add(`${e[0]}.${e[1]}`));
    tell({ do: "peek", positions: wanted.map((e) => [e[0], e[1]]) });
  }

  function select(at) {
    selected = shown[Math.max(0, Math.min(shown.length - 1, at))] ?? null;
    if (!selected) return;
    const top = shown.indexOf(selected) * ROW;
    const before = box.scrollTop;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
    if (box.scrollTop !== before) following = isAtEnd();
    placed = box.scrollTop;
    tell({ do: "detail", sequence: selected[0], index: selected[1] });
    soon();
  }

  function keys(event) {
    const page = Math.floor(box.clientHeight / ROW);
    const at = shown.findIndex((entry) => same(entry, selected));
    const here = at < 0 ? shown.length : at;
    const steps = { ArrowUp: here - 1, ArrowDown: here + 1, PageUp: here - page, PageDown: here + page };
    const to = { ...steps, Home: 0, End: shown.length - 1 }[event.key];
    if (to !== undefined) select(to);
    else if (event.key === "Enter" && selected) goTo(selected[0]);
    else return;
    event.preventDefault();
  }

  const label = h("label", {}, commits, " commits");
  return {
    element: h("div", {}, h("div", { class: "hn-line" }, filter, label, count, earlier, toNewest), box, detail),
    add,
    clear: () => { entries = []; fitting = []; shown = []; unseen = 0; asked.clear(); soon(); },
    box,
    resize: soon,
    setEarlier: (there) => { earlier.hidden = !there; },
    setLimit: (sequence) => { limit = sequence ?? Infinity; following = true; cut(); soon(); },
    setDetail: (message) => {
      if (!same([message.sequence, message.index], selected)) return;
      text.textContent = message.text;
      detail.hidden = false;
    },
    setPreviews: (previews) => {
      const known = new Map(previews.map(([s, i, line]) => [`${s}.${i}`, line]));
      for (const entry of entries) entry[7] ??= known.get(`${entry[0]}.${entry[1]}`) ?? null;
      soon();
    },
    near: (sequence, by) => {
      const at = by < 0 ? after(entries, sequence - 1) - 1 : after(entries, sequence);
      return entries[at]?.[0];
    },
    told: (sequence) => {
      const entry = entries[after(entries, sequence) - 1];
      return entry ? line(entry) : "";
    },
    line,
  };
}
