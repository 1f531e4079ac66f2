// The dashboard of a space. The kernel sends summaries at most ten times a second, and details on request.

const UNHANDLED_INTERVAL_MS = 2000; // at least, between two requests for unhandled events
const RETRY_MS = 1000; // after which everything is requested again, as a message may be lost; then doubled,
const MAX_RETRY_MS = 16000; // up to this
const SILENCE_MS = 5000; // after which the kernel counts as silent; it answers when no cell is running

function render({ model, el }) {
  const view = Math.floor(Math.random() * 2 ** 40) * 1024;
  let count = 0;
  const send = (message) => {
    const request = view + ++count;
    model.send({ ...message, request });
    return request;
  };
  let [first, last, past, newest] = [1, 1, null, null];
  let unhandledTimer = null;
  let retryTimer = null;
  let hasReceived = false;
  let connection = "connecting"; // then "live", or "no answer from the kernel" until there is one

  const seek = (sequence) => {
    past = sequence;
    slider.value = sequence ?? last;
    send({ do: "at", sequence });
    showTime();
  };
  const states = makeStates(send);
  const log = makeLog(send, seek);
  const form = makeForm(send, states.names);
  const failures = makeProblems(send, {
    retry: "retry",
    retryAll: "retryAll",
    clear: "clearFailures",
    none: "no failures",
  });
  const unhandled = makeProblems(send, {
    retry: "retryUnhandled",
    retryAll: "retryAllUnhandled",
    refresh: "unhandled",
    none: "no unhandled events",
  });
  const panels = [["Events", log], ["Send", form], ["Failures", failures], ["Unhandled", unhandled]];
  const tabs = makeTabs(
    panels.map(([title, { element }]) => ({ title, element })),
    (title) => {
      if (title === "Unhandled") send({ do: "unhandled" });
      if (title === "Events") log.resize();
    },
  );
  const name = h("b", {});
  const status = h("span", { class: "hn-status", role: "status" });
  const now = h("button", { onclick: () => seek(null) }, "back to now");
  const slide = () => seek(Number(slider.value) >= last ? null : Number(slider.value));
  const slider = h("input", { type: "range", step: 1, "aria-label": "Point in time", oninput: slide });
  const step = (by) => () => {
    const sequence = log.near(past ?? last + (by < 0 ? 1 : 0), by);
    if (sequence !== undefined) seek(by > 0 && sequence >= last ? null : sequence);
  };
  const timeText = h("output", { class: "hn-quiet" });
  const title = h("span", { class: "hn-title" }, "Space ", name);
  const bar = h("div", { class: "hn-line hn-bar" }, title, status, now);
  const line = h("div", { class: "hn-line hn-time" },
    h("button", { onclick: step(-1), "aria-label": "Earlier" }, "◀"), slider,
    h("button", { onclick: step(1), "aria-label": "Later" }, "▶"), timeText);

  function showTime() {
    const isLive = connection === "live";
    status.textContent = isLive && past !== null ? "past" : connection;
    status.classList.toggle("hn-past", isLive && past !== null);
    status.classList.toggle("hn-waiting", !isLive);
    status.title = isLive ? "" : "The kernel answers when no cell is running. If it has stopped, run this cell again.";
    now.hidden = past === null;
    timeText.textContent = past === null ? "" : log.textAt(past) || (newest ? log.text(newest) : "");
    slider.setAttribute("aria-valuetext", past === null ? "now" : timeText.textContent || `position ${past}`);
    slider.min = first;
    slider.max = last;
    slider.value = past ?? last;
    form.setPast(past !== null);
  }

  const handlers = {
    all(message) {
      const isOurs = message.request > view && message.request <= view + count;
      if (connection === "live" || !isOurs) return;
      connection = "live";
      clearTimeout(retryTimer);
      name.textContent = message.space;
      log.clear();
      log.add(message.log);
      handlers.tick(message);
      if (message.past !== null) handlers.snapshot({ ...message, at: message.past });
    },
    tick(message) {
      first = message.first ?? first;
      last = message.last;
      if (message.nodes && past === null) states.setNodes(message.nodes, message.whole, message.more);
      for (const each of message.children ?? []) states.setChildren(each);
      for (const [node, paths] of message.changed ?? []) states.flashChanged(node, paths);
      if (message.log && message.type === "tick") log.add(message.log);
      if (message.failures) setFailures(message.failures);
      if ("earlier" in message) log.setEarlier(message.earlier);
      requestUnhandled(message.log);
      showTime();
    },
    snapshot(message) {
      past = message.at;
      newest = message.newest;
      states.setNodes(message.nodes, message.whole, message.more);
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
      timeText.textContent = message.text;
    },
    failures(message) {
      setFailures(message.failures);
      failures.setStatus(message.status);
    },
    unhandled(message) {
      unhandled.set(message.unhandled);
      unhandled.setStatus(message.status);
      tabs.setCount(3, message.unhandled.length);
    },
  };
  const requestUnhandled = (entries) => {
    if (!entries?.length || unhandledTimer || tabs.current() !== "Unhandled") return;
    unhandledTimer = setTimeout(() => {
      unhandledTimer = null;
      send({ do: "unhandled" });
    }, UNHANDLED_INTERVAL_MS);
  };
  const setFailures = (all) => {
    failures.set(all);
    tabs.setCount(2, all.length);
  };
  // JupyterLab ignores its shortcuts, such as "dd" for deleting a cell, in elements with this attribute
  const attributes = { class: "happen hn-dash", role: "region", "aria-label": "Dashboard" };
  const columns = h("div", { class: "hn-columns" }, states.element, tabs.element);
  const root = h("div", { ...attributes, "data-lm-suppress-shortcuts": "true" }, bar, line, columns);
  el.append(root);
  const receive = whileNotPressed(root, (message) => {
    hasReceived = true; // news arrive while a cell runs, but answers only after it
    handlers[message.type]?.(message);
  });
  model.on("msg:custom", receive);
  const watcher = new ResizeObserver(() => log.resize());
  watcher.observe(root);
  watcher.observe(log.box);
  const hello = (wait) => {
    send({ do: "hello" });
    retryTimer = setTimeout(hello, wait, Math.min(2 * wait, MAX_RETRY_MS));
  };
  const silenceTimer = setTimeout(() => {
    if (connection !== "connecting" || hasReceived) return;
    connection = "no answer from the kernel";
    showTime();
  }, SILENCE_MS);
  showTime();
  hello(RETRY_MS);
  return () => {
    for (const timer of [retryTimer, silenceTimer, unhandledTimer]) clearTimeout(timer);
    model.off("msg:custom", receive);
    watcher.disconnect();
  };
}

export default { render };
