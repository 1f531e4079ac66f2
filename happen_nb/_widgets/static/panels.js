// The panels beside the states: a form, problems, and scheduled events; their tabs; the pace of the space; and the
// place of the dashboard: how high it is, and whether it is in its output or beside the notebook.

// A form that sends an event or sets a value in a state.

function makeForm(send, names) {
  const nodes = h("datalist", { id: newId("nodes") });
  const plainText = { autocomplete: "off", spellcheck: "false" };
  const field = (name, attributes, tag = "input") => h(tag, { name, ...plainText, ...attributes });
  const kinds = [
    ["broadcast", "broadcast an event"],
    ["send", "send an event to a node"],
    ["set", "set a value in a state"],
  ];
  const options = kinds.map(([value, text]) => h("option", { value }, text));
  const kind = h("select", { onchange: adapt }, ...options);
  const node = field("node", { list: nodes.id, placeholder: "node", onfocus: fill });
  const name = field("name", { placeholder: "order.paid" });
  const value = field("value", { rows: 3, placeholder: '{"id": "o1"}' }, "textarea");
  const button = h("button", { type: "submit" }, "send");
  const answer = h("pre", { class: "hn-detail", role: "status", "aria-live": "polite" });
  const labels = { name: h("span", {}), value: h("span", {}) };
  const nodeLabel = h("label", {}, h("span", {}, "node"), node);
  const form = h("form", { class: "hn-form", onsubmit: submit, onkeydown: keys },
    h("fieldset", { class: "hn-asks" }, h("label", {}, h("span", {}, "action"), kind), nodeLabel,
      h("label", {}, labels.name, name), h("label", {}, labels.value, value), button), answer, nodes);

  function fill() {
    nodes.replaceChildren(...names().map((node) => h("option", { value: node })));
  }

  function adapt() {
    const set = kind.value === "set";
    nodeLabel.hidden = kind.value === "broadcast";
    labels.name.textContent = set ? "path" : "type";
    labels.value.textContent = set ? "value, as JSON" : "payload, as JSON";
    name.placeholder = set ? "orders.o1.status" : "order.paid";
    value.placeholder = set ? '"shipped"' : '{"id": "o1"}';
    button.textContent = set ? "set" : "send";
  }

  function keys(event) {
    const submits = event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.shiftKey;
    if (event.key !== "Enter" || event.target.tagName === "BUTTON" || !submits) return;
    event.preventDefault(); // JupyterLab prevents Enter from submitting
    if (!button.disabled) form.requestSubmit();
  }

  let request = 0;
  function submit(event) {
    event.preventDefault();
    const fields = { node: node.value.trim(), name: name.value.trim(), value: value.value };
    request = send({ do: "act", kind: kind.value, ...fields });
    answer.textContent = "…";
    answer.classList.remove("e");
  }

  adapt();
  return {
    element: form,
    setPast: (past) => { button.disabled = past; button.title = past ? "go back to now first" : ""; },
    setAnswer: ({ request: answered, text, error }) => {
      if (answered !== request) return false;
      answer.textContent = text;
      answer.tabIndex = 0;
      answer.classList.toggle("e", Boolean(error));
      return true;
    },
  };
}

// A list of problems that can be retried: failures, or unhandled events.

function makeProblems(send, { retry, retryAll, clear, refresh, none }) {
  const list = h("ul", { class: "hn-list" });
  const empty = h("p", { class: "hn-quiet" }, none);
  const status = h("p", { class: "e", role: "status", "aria-live": "polite" });
  const all = h("button", { onclick: () => send({ do: retryAll }) }, "retry all");
  const button = (action, text) => action && h("button", { onclick: () => send({ do: action }) }, text);
  const buttons = [all, button(clear, "clear all"), button(refresh, "refresh")];
  let limit = Infinity;
  let problems = [];

  function draw() {
    const shown = problems.filter(({ sequence }) => !sequence || sequence <= limit);
    const existing = new Map([...list.children].map((item) => [item.dataset.id, item]));
    list.replaceChildren(...shown.map((problem) => existing.get(String(problem.id)) ?? item(problem)));
    shown.forEach(({ times }, at) => {
      list.children[at].times.textContent = times > 1 ? ` ×${commas(times)}` : "";
    });
    empty.hidden = shown.length > 0;
    all.disabled = !shown.length;
  }

  function item({ id, line, detail }) {
    const times = h("span", { class: "hn-quiet" });
    const retryButton = h("button", { onclick: () => send({ do: retry, id }) }, "retry");
    const head = h("summary", {}, ...spans(line), times);
    const folded = h("details", {}, head, h("pre", { class: "hn-detail", tabindex: 0 }, detail));
    const element = h("li", {}, detail ? folded : h("div", {}, ...head.childNodes), retryButton);
    element.dataset.id = id;
    element.times = times;
    return element;
  }

  return {
    element: h("fieldset", { class: "hn-asks" }, h("div", { class: "hn-line" }, ...buttons.filter(Boolean)), status, empty, list),
    set: (all) => { problems = all; draw(); },
    setLimit: (sequence) => { limit = sequence ?? Infinity; draw(); },
    setStatus: (text) => { status.textContent = text; },
  };
}

// The next scheduled events, each with its due time.

function makeScheduled(send, styleOf) {
  const list = h("ul", { class: "hn-list hn-due" });
  const empty = h("p", { class: "hn-quiet" }, "nothing is scheduled");
  const more = h("p", { class: "hn-quiet" });

  function item({ id, ms, sender, text }) {
    const when = new Date(ms).toISOString();
    const cancel = h("button", { type: "button", "aria-label": `cancel ${text}`, onclick: () => send({ do: "cancel_scheduled", id }) }, "cancel");
    const ring = h("span", { class: "hn-ring", style: styleOf(sender), "aria-hidden": "true" });
    const due = h("time", { datetime: when, title: `${when.slice(0, 19).replace("T", " ")} UTC` }, `${when.slice(0, 10)} ${when.slice(11, 19)}`);
    return h("li", { "data-id": `${id} ${ms}` }, h("div", {}, ring, due, " ", text), cancel);
  }

  return {
    element: h("fieldset", { class: "hn-asks" }, empty, list, more),
    set(events, number) {
      const existing = new Map([...list.children].map((each) => [each.dataset.id, each]));
      list.replaceChildren(...events.map((event) => existing.get(`${event.id} ${event.ms}`) ?? item(event)));
      empty.hidden = number > 0;
      more.hidden = number <= events.length;
      more.textContent = `… ${commas(number - events.length)} later`;
    },
  };
}

// Tabs: one of several panels is shown.

function makeTabs(panels, onChange) {
  let current = null;
  const bar = h("div", { role: "tablist", class: "hn-tabs", onkeydown: keys });
  const tabs = panels.map(({ title }, at) => {
    const tab = h("button", { role: "tab", type: "button", onclick: () => choose(at) }, title);
    bar.append(tab);
    return tab;
  });
  const shown = panels.map(({ title, element }) => h("div", { role: "tabpanel", "aria-label": title }, element));

  function choose(chosen) {
    current = panels[chosen].title;
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === chosen));
      tab.tabIndex = at === chosen ? 0 : -1;
      shown[at].hidden = at !== chosen;
    });
    onChange(current);
  }

  function keys(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = (tabs.indexOf(event.target) + by + tabs.length) % tabs.length;
    choose(next);
    tabs[next].focus();
    event.preventDefault();
  }

  choose(0);
  return {
    element: h("section", { class: "hn-side" }, bar, ...shown),
    current: () => current,
    setCount: (at, number) => {
      const { title, one } = panels[at];
      const name = number === 1 ? one : title.toLowerCase();
      tabs[at].textContent = number ? `${commas(number)} ${name}` : title;
    },
  };
}

// The buttons that pause a space, step through the events that wait, and resume.

function makePace(send) {
  let isOpen = true; // nothing waits
  const held = h("span", { class: "hn-held", hidden: true });
  const step = h("button", { type: "button", disabled: true, onclick: () => send({ do: "step" }) }, "step");
  const toggle = h("button", { type: "button", onclick: () => send({ do: isOpen ? "pause" : "resume" }) }, "pause");

  function set({ paused, slow, held: number }) {
    isOpen = paused === null && slow === null;
    toggle.textContent = isOpen ? "pause" : "resume";
    step.disabled = paused === null;
    held.hidden = isOpen;
    held.textContent = `${paused === null ? "slow" : "paused"} · ${commas(number)} held`;
    held.title = paused === null ? `${slow} s before each event` : `events that match ${paused} wait`;
  }

  return { element: h("fieldset", { class: "hn-asks hn-pace", "aria-label": "Pace" }, held, step, toggle), set };
}

// A handle below a part of the page, which resizes that part by dragging, or with the arrow keys.

const [MIN_HEIGHT, MAX_HEIGHT, HEIGHT_STEP] = [120, 1600, 20]; // pixels

function makeDivider(part, resized) {
  const handle = h("div", { class: "hn-divider", role: "separator", tabindex: 0, "aria-orientation": "horizontal",
    "aria-label": "Height", "aria-valuemin": MIN_HEIGHT, "aria-valuemax": MAX_HEIGHT,
    title: "Drag to resize, or use the arrow keys", onpointerdown: grab, onkeydown: keys });
  let grabbed = null; // where the pointer is, and the height then

  function set(height) {
    const fitting = Math.round(Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, height)));
    part.style.setProperty("--hn-height", `${fitting}px`);
    handle.setAttribute("aria-valuenow", fitting);
    resized();
  }

  const height = () => Number(handle.getAttribute("aria-valuenow"));

  function grab(event) {
    grabbed = { y: event.clientY, height: height() };
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = ({ clientY }) => set(grabbed.height + clientY - grabbed.y);
    handle.onpointerup = () => { handle.onpointermove = null; };
  }

  function keys(event) {
    const by = { ArrowDown: HEIGHT_STEP, ArrowUp: -HEIGHT_STEP, PageDown: 5 * HEIGHT_STEP, PageUp: -5 * HEIGHT_STEP }[event.key];
    if (!by) return;
    set(height() + by);
    event.preventDefault();
  }

  set(320);
  return { handle, height, set };
}

// Moves the dashboard from its output into a tab beside the notebook, and back. JupyterLab's extension of the
// same package offers that; without it, there is no button.

function makeSideTab(root, title, divider) {
  const host = globalThis.happenSideTab;
  const move = h("button", { title: "Show in a tab beside the notebook", onclick: toggle, hidden: !host }, "side tab");
  const note = h("div", { class: "happen hn-away" }, "The dashboard is in a tab beside the notebook. ",
    h("button", { onclick: () => tab.close() }, "bring it back"));
  let tab = null; // while it is there
  let heightInCell = 0;
  const watcher = new ResizeObserver(fill);

  function toggle() {
    if (tab) tab.close();
    else open();
  }

  function open() {
    root.before(note);
    tab = host.show(title(), root, comeBack);
    move.textContent = "back to the cell";
    heightInCell = divider().height();
    watcher.observe(root.parentElement);
  }

  function comeBack() {
    tab = null;
    note.replaceWith(root);
    move.textContent = "side tab";
    watcher.disconnect();
    divider().set(heightInCell);
  }

  function fill() { // the tab; some parts of the dashboard grow more than others, so that it may be too much
    const space = root.parentElement;
    divider().set(divider().height() + space.clientHeight - root.offsetHeight);
    divider().set(divider().height() - Math.max(0, space.scrollHeight - space.clientHeight));
  }

  return {
    button: move,
    join() { // the cell ran again: its tab is still there
      if (!tab && host?.isFree(title())) open();
    },
    leave() {
      watcher.disconnect();
      const gone = h("p", { class: "happen hn-away" }, "This dashboard has ended. Run its cell again to continue here.");
      tab?.release(gone);
      note.remove();
    },
  };
}
