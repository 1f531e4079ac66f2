// The dashboard of a space. The kernel sends summaries at most ten times a second, and details when asked.

const LOOK = 2000; // ms at least between two looks for unhandled events
const AGAIN = 1000; // ms after which all is asked for again, as a message may be lost; then twice as long
const MOST = 16000; // ms, at most
const SILENT = 5000; // ms after which the kernel counts as silent; it answers between two cells

function render({ model, el }) {
  const view = Math.floor(Math.random() * 2 ** 40) * 1024;
  let count = 0;
  const tell = (message) => {
    const ask = view + ++count;
    model.send({ ...message, ask });
    return ask;
  };
  let [first, last, past, newest, looking] = [1, 1, null, null, null];
  let [asking, heard] = [null, false];
  let connection = "connecting"; // then "live", or "no answer from the kernel" until there is one

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
    const isLive = connection === "live";
    status.textContent = isLive && past !== null ? "past" : connection;
    status.classList.toggle("hn-past", isLive && past !== null);
    status.classList.toggle("hn-waiting", !isLive);
    status.title = isLive ? "" : "It answers between two cells. If it has ended, run this cell again.";
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
      if (connection === "live" || message.ask <= view || message.ask > view + count) return; // of another view
      connection = "live";
      clearTimeout(asking);
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
  const hear = unlessPressed(root, (message) => {
    heard = true; // what is new comes while a cell runs, but the answer after it
    takes[message.type]?.(message);
  });
  model.on("msg:custom", hear);
  const watcher = new ResizeObserver(() => log.resize());
  watcher.observe(root);
  watcher.observe(log.box);
  const hello = (wait) => {
    tell({ do: "hello" });
    asking = setTimeout(hello, wait, Math.min(2 * wait, MOST));
  };
  const silent = setTimeout(() => {
    if (connection !== "connecting" || heard) return;
    connection = "no answer from the kernel";
    showTime();
  }, SILENT);
  showTime();
  hello(AGAIN);
  return () => {
    clearTimeout(asking);
    clearTimeout(silent);
    model.off("msg:custom", hear);
    watcher.disconnect();
    clearTimeout(looking);
  };
}

export default { render };
