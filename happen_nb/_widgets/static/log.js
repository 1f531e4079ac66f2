// The log of events and commits: only the visible rows are elements.

const ROW_PX = 22;
const MAX_ENTRIES = 10_000;

function makeLog(send, seek) {
  let entries = []; // [sequence, index, kind, ms, title, sender, target, preview, ms of a manual clock]
  let matching = []; // entries that pass the filter
  let shown = []; // matching entries up to the point in time that is shown
  let selected = null;
  let limit = Infinity; // the last sequence that is shown
  let isDrawPending = false;
  let isFollowing = true; // the newest entry stays visible; only scrolling by the user turns that off
  let lastTop = 0; // scroll position that was set last
  let lastHeight = 0; // of the box when it was drawn last; 0 while it is hidden
  let unseen = 0; // entries added since it stopped following
  const requested = new Set();
  const id = newId("entry");

  const placeholder = "filter: order.* paid";
  const searching = { type: "search", placeholder, "aria-label": "Filter the log" };
  const filter = h("input", { ...searching, oninput: refilter });
  const commits = h("input", { type: "checkbox", checked: true, onchange: refilter });
  const count = h("span", { class: "hn-quiet", role: "status" });
  const rows = h("div", { class: "hn-rows" });
  const earlier = h("button", { class: "hn-asks hn-more", onclick: () => send({ do: "earlier" }) }, "load earlier");
  const toNewest = h("button", { class: "hn-newest", hidden: true, onclick: follow });
  const list = { role: "listbox", tabindex: 0 };
  const events = { onscroll: scrolled, onkeydown: keys };
  const box = h("div", { class: "hn-log", "aria-label": "Events and commits", ...list, ...events }, rows);
  box.addEventListener("wheel", wheeled, { passive: true });
  const text = h("pre", { class: "hn-detail", tabindex: 0 });
  const seekButton = h("button", { class: "hn-asks", onclick: () => selected && seek(selected[0]) }, "go to this point in time");
  const detail = h("div", { hidden: true }, seekButton, text);

  const timeOf = ([, , , ms, , , , , moment]) => (moment === null ? time(ms) : dateTime(moment));
  const textOf = (entry) => `${timeOf(entry)} UTC · ${entry[4]}`;
  const same = (one, other) => one?.[0] === other?.[0] && one?.[1] === other?.[1];
  const searchText = ([, , , , ...texts]) => [...texts.slice(0, 3), plain(texts[3] ?? [])].join(" ").toLowerCase();
  const literal = (part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&");
  const pattern = (word) => new RegExp(word.split("*").map(literal).join(".*"));

  function makeFilter() {
    const patterns = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(pattern);
    return (entry) =>
      (commits.checked || entry[2] === "event") &&
      (!patterns.length || patterns.every((word) => word.test(searchText(entry))));
  }

  function refilter() {
    matching = entries.filter(makeFilter());
    applyLimit();
    scheduleDraw();
  }

  function applyLimit() {
    shown = limit === Infinity ? matching : matching.slice(0, countUpTo(matching, limit));
  }

  function add(more, { first = false } = {}) {
    const newest = entries.at(-1);
    const isLater = ([s, i]) => !newest || s > newest[0] || (s === newest[0] && i > newest[1]);
    const fresh = first ? more : more.filter(isLater);
    entries = first ? [...fresh, ...entries] : [...entries, ...fresh];
    const excess = Math.max(0, entries.length - MAX_ENTRIES);
    const removed = excess && !first ? countUpTo(shown, entries[excess - 1][0]) : 0;
    const remaining = shown.length - removed;
    if (first || excess) matching = (entries = entries.slice(excess)).filter(makeFilter());
    else matching.push(...fresh.filter(makeFilter()));
    applyLimit();
    const added = Math.max(0, shown.length - remaining);
    if (!isFollowing) shift(first ? added : -removed);
    if (!isFollowing && !first) unseen += added;
    scheduleDraw();
  }

  function shift(by) { // keeps the visible rows in place when rows before them are added or removed
    rows.style.height = `${Math.max(1, shown.length) * ROW_PX}px`;
    box.scrollTop += by * ROW_PX;
    lastTop = box.scrollTop;
  }

  function follow() {
    isFollowing = true;
    scheduleDraw();
  }

  function scrolled() {
    // the browser also scrolls a box that is hidden, shown again or resized
    const distance = box.scrollTop - lastTop;
    const byUser = box.clientHeight && box.clientHeight === lastHeight && Math.abs(distance) > 1;
    if (byUser) isFollowing = distance > 0 && isAtEnd(); // a touchpad scrolls up by a few pixels at a time
    scheduleDraw();
  }

  function wheeled({ deltaY }) { // a wheel moves the box by less than a pixel a frame at first, as layout does
    if (deltaY < 0 && box.scrollTop > 0) isFollowing = false;
    if (deltaY > 0 && isAtEnd()) isFollowing = true;
    scheduleDraw();
  }

  const isAtEnd = () => box.scrollTop + box.clientHeight >= shown.length * ROW_PX - ROW_PX;

  function scheduleDraw() {
    if (isDrawPending) return;
    isDrawPending = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    isDrawPending = false;
    const wasHidden = !lastHeight;
    lastHeight = box.clientHeight;
    if (!lastHeight) { // no observer notices if JupyterLab hides all for a moment, as to change its theme
      if (!wasHidden) scheduleDraw();
      return;
    }
    rows.style.height = `${Math.max(1, shown.length) * ROW_PX}px`;
    if (isFollowing) {
      box.scrollTop = shown.length * ROW_PX;
      unseen = 0;
    }
    lastTop = box.scrollTop;
    toNewest.hidden = isFollowing;
    toNewest.textContent = unseen ? `${commas(unseen)} new, go to newest` : "go to newest";
    const from = Math.max(0, Math.floor(box.scrollTop / ROW_PX) - 3);
    const until = Math.min(shown.length, from + Math.ceil(box.clientHeight / ROW_PX) + 6);
    rows.replaceChildren(...shown.slice(from, until).map((entry, at) => row(entry, from + at)));
    rows.style.paddingTop = `${from * ROW_PX}px`;
    if (rows.querySelector(`#${id}`)) box.setAttribute("aria-activedescendant", id);
    else box.removeAttribute("aria-activedescendant");
    const events = shown.reduce((number, entry) => number + (entry[2] === "event"), 0);
    const parts = [counted(events, "event"), counted(shown.length - events, "commit")];
    const hidden = entries.length - shown.length;
    count.textContent = [...parts, ...(hidden ? [`${commas(hidden)} hidden`] : [])].join(" · ");
    requestPreviews(shown.slice(from, until));
  }

  function row(entry, at) {
    const [, , kind, ms, title, sender, target, preview, moment] = entry;
    const isSelected = same(entry, selected);
    const route = kind === "event" ? `${sender} → ${target ?? "all"}` : sender ? `by ${sender}` : "";
    const attributes = { class: `hn-entry hn-${kind}`, role: "option", "aria-selected": String(isSelected) };
    const choose = () => select(at); // on press: scrolling replaces the rows, and then there is no click
    const made = h("div", { ...attributes, id: isSelected ? id : null, onmousedown: choose });
    const about = () => (moment === null ? ago(ms) : `stored ${ago(ms)}`);
    const stamp = h("time", { datetime: new Date(moment ?? ms).toISOString(), onpointerenter: ({ target }) => { target.title = about(); } }, timeOf(entry));
    made.append(stamp, h("b", { title }, title), h("span", { class: "hn-quiet" }, route));
    made.append(h("span", {}, ...spans(preview ?? [])));
    return made;
  }

  function requestPreviews(visible) {
    const wanted = visible.filter((e) => e[7] === null && !requested.has(`${e[0]}.${e[1]}`));
    if (!wanted.length) return;
    wanted.forEach((e) => requested.add(`${e[0]}.${e[1]}`));
    send({ do: "previews", positions: wanted.map((e) => [e[0], e[1]]) });
  }

  function select(at) {
    selected = shown[Math.max(0, Math.min(shown.length - 1, at))] ?? null;
    if (!selected) return;
    const top = shown.indexOf(selected) * ROW_PX;
    const before = box.scrollTop;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_PX - box.clientHeight;
    if (box.scrollTop !== before) isFollowing = isAtEnd();
    lastTop = box.scrollTop;
    if (seekButton.disabled) detail.hidden = true; // nothing answers
    else send({ do: "detail", sequence: selected[0], index: selected[1] });
    scheduleDraw();
  }

  function keys(event) {
    const page = Math.floor(box.clientHeight / ROW_PX);
    const at = shown.findIndex((entry) => same(entry, selected));
    const here = at < 0 ? shown.length : at;
    const steps = { ArrowUp: here - 1, ArrowDown: here + 1, PageUp: here - page, PageDown: here + page };
    const to = { ...steps, Home: 0, End: shown.length - 1 }[event.key];
    if (to !== undefined) select(to);
    else if (event.key === "Enter" && selected) seek(selected[0]);
    else return;
    event.preventDefault();
  }

  const label = h("label", {}, commits, " show commits");
  return {
    element: h("div", {}, h("div", { class: "hn-line" }, filter, label),
      h("div", { class: "hn-line hn-count" }, count, earlier, toNewest), box, detail),
    add,
    clear: () => { entries = []; matching = []; shown = []; unseen = 0; requested.clear(); scheduleDraw(); },
    box,
    resize: scheduleDraw,
    setEarlier: (hasEarlier) => { earlier.hidden = !hasEarlier; },
    setLimit: (sequence) => { limit = sequence ?? Infinity; isFollowing = true; applyLimit(); scheduleDraw(); },
    setDetail: (message) => {
      if (!same([message.sequence, message.index], selected)) return;
      text.textContent = message.text;
      detail.hidden = false;
    },
    setPreviews: (previews) => {
      const known = new Map(previews.map(([s, i, line]) => [`${s}.${i}`, line]));
      for (const entry of entries) entry[7] ??= known.get(`${entry[0]}.${entry[1]}`) ?? null;
      scheduleDraw();
    },
    near: (sequence, by, matches = () => true) => {
      let at = by < 0 ? countUpTo(entries, sequence - 1) - 1 : countUpTo(entries, sequence);
      while (entries[at] && !matches(entries[at])) at += by;
      return entries[at]?.[0];
    },
    entries: () => entries,
    textAt: (sequence) => {
      const entry = entries[countUpTo(entries, sequence) - 1];
      return entry ? textOf(entry) : "";
    },
    text: textOf,
  };
}
