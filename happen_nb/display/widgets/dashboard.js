// The dashboard of a space. The kernel sends summaries at most ten times a second, and details when asked.

const LOOK = 2000; // ms at least between two looks for unhandled events

function render({ model, el }) {
  const view = Math.floor(Math.random() * 2 ** 40) * 1024;
  let count = 0;
  const tell = (message) => {
    const ask = view + ++count;
    model.send({ ...message, ask });
    return ask;
  };
  let [first, last, past, newest, looking] = [1, 1, null, null, null];

  const goTo = (sequence) => {
    past = sequence;
    slider.value = sequence ?? last;
    tell({ do: "at", sequence });
    showTime();
  };
  const states = makeStates(tell);
  const log = makeLog(tell, goTo);
  const form = makeForm(tell, states.names);
  const failures = makeProblems(tell, {
    retry: "retry",
    retryAll: "retryAll",
    clear: "forget",
    none: "no failures",
  });
  const unhandled = makeProblems(tell, {
    retry: "retryUnhandled",
    retryAll: "retryAllUnhandled",
    look: "unhandled",
    none: "no unhandled events",
  });
  const panels = [["Events", log], ["Send", form], ["Failures", failures], ["Unhandled", unhandled]];
  const tabs = makeTabs(
    panels.map(([title, { element }]) => ({ title, element })),
    (title) => {
      if (title === "Unhandled") tell({ do: "unhandled" });
      if (title === "Events") log.resize();
    },
  );
  const name = h("b", {});
  const status = h("span", { class: "hn-status", role: "status" });
  const now = h("button", { onclick: () => goTo(null) }, "back to now");
  const slide = () => goTo(Number(slider.value) >= last ? null : Number(slider.value));
  const slider = h("input", { type: "range", step: 1, "aria-label": "Moment", oninput: slide });
  const step = (by) => () => {
    const sequence = log.near(past ?? last + (by < 0 ? 1 : 0), by);
    if (sequence !== undefined) goTo(by > 0 && sequence >= last ? null : sequence);
  };
  const told = h("output", { class: "hn-quiet" });
  const title = h("span", { class: "hn-title" }, "Space ", name);
  const bar = h("div", { class: "hn-line hn-bar" }, title, status, now);
  const line = h("div", { class: "hn-line hn-time" },
    h("button", { onclick: step(-1), "aria-label": "Earlier moment" }, "◀"), slider,
    h("button", { onclick: step(1), "aria-label": "Later moment" }, "▶"), told);

  function showTime() {
    status.textContent = past === null ? "live" : "past";
    status.classList.toggle("hn-past", past !== null);
    now.hidden = past === null;
    told.textContent = past === null ? "" : log.told(past) || (newest ? log.line(newest) : "");
    slider.setAttribute("aria-valuetext", past === null ? "now" : told.textContent || `position ${past}`);
    slider.min = first;
    slider.max = last;
    slider.value = past ?? last;
    form.setPast(past !== null);
  }

  const takes = {
    all(message) {
      if (message.ask !== mine) return;
      name.textContent = message.space;
      log.clear();
      log.add(message.log);
      takes.tick(message);
      if (message.past !== null) takes.moment({ ...message, at: message.past });
    },
    tick(message) {
      first = message.first ?? first;
      last = message.last;
      if (message.nodes && past === null) states.setNodes(message.nodes, message.whole, message.left);
      for (const each of message.children ?? []) states.setChildren(each);
      for (const [node, paths] of message.changed ?? []) states.flashChanged(node, paths);
      if (message.log && message.type === "tick") log.add(message.log);
      if (message.failures) setFailures(message.failures);
      if ("earlier" in message) log.setEarlier(message.earlier);
      lookForUnhandled(message.log);
      showTime();
    },
    moment(message) {
      past = message.at;
      newest = message.newest;
      states.setNodes(message.nodes, message.whole, message.left);
      for (const each of message.children ?? []) states.setChildren(each);
      for (const each of [log, failures, unhandled]) each.setLimit(past);
      showTime();
    },
    children: (message) => states.setChildren(message),
    earlier(message) {
      log.add(message.log, { first: true });
      log.setEarlier(message.earlier);
    },
    previews: (message) => log.setPreviews(message.previews),
    detail: (message) => log.setDetail(message),
    answer: (message) => form.setAnswer(message),
    problem(message) {
      told.textContent = message.text;
    },
    failures(message) {
      setFailures(message.failures);
      failures.say(message.said);
    },
    unhandled(message) {
      unhandled.set(message.unhandled);
      unhandled.say(message.said);
      tabs.setCount(3, message.unhandled.length);
    },
  };
  const lookForUnhandled = (news) => {
    if (!news?.length || looking || tabs.current() !== "Unhandled") return;
    looking = setTimeout(() => {
      looking = null;
      tell({ do: "unhandled" });
    }, LOOK);
  };
  const setFailures = (all) => {
    failures.set(all);
    tabs.setCount(2, all.length);
  };
  // JupyterLab keeps its shortcuts, as "dd" for deleting a cell, away from elements with this attribute
  const attributes = { class: "happen hn-dash", role: "region", "aria-label": "Dashboard" };
  const columns = h("div", { class: "hn-columns" }, states.element, tabs.element);
  const root = h("div", { ...attributes, "data-lm-suppress-shortcuts": "true" }, bar, line, columns);
  el.append(root);
  const hear = unlessPressed(root, (message) => takes[message.type]?.(message));
  model.on("msg:custom", hear);
  const watcher = new ResizeObserver(() => log.resize());
  watcher.observe(root);
  showTime();
  const mine = tell({ do: "hello" });
  return () => {
    model.off("msg:custom", hear);
    watcher.disconnect();
    clearTimeout(looking);
  };
}

export default { render };
