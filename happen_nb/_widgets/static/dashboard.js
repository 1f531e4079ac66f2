// The dashboard of a space. The kernel sends summaries at most ten times a second, and details on request.

const UNHANDLED_INTERVAL_MS = 2000; // at least, between two requests for unhandled events
const OUTCOME_MS = 8000; // for which the outcome of an action is shown
const ACTIVITY_MS = 500; // between two drawings of the activity
const SILENCE_MS = 5000; // after which the kernel counts as silent; it answers when no cell is running
const ENDS = {
  closed: "The space is closed: the dashboard shows its last states. Run the notebook again to continue.",
  [NO_ANSWER]: "The kernel answers when no cell is running. If it has stopped, run the notebook again.",
};

function render({ model, el }) {
  const view = Math.floor(Math.random() * 2 ** 40) * 1024;
  let count = 0;
  const send = (message) => {
    const request = view + ++count;
    if (sendTo(model, { ...message, request })) return request;
    setEnd(NO_ANSWER);
    return 0;
  };
  const setEnd = (end) => {
    if (connection !== "closed") connection = end;
    moments.rest();
  };
  let unhandledTimer = null;
  let activityTimer = null;
  let hasReceived = false;
  let connection = "connecting"; // then "live", until it ends
  let isFilled = false;

  const log = makeLog(send, (sequence) => moments.seek(sequence));
  const activity = makeActivity(log.entries);
  const choose = () => moments.compare();
  const states = makeStates(send, { activity, choose, copied: (text) => tell(`copied ${text}`) });
  const moments = makeMoments({ send, log, activity, chosen: states.chosen });
  const form = makeForm(send, states.names);
  const pace = makePace(send);
  const failures = makeProblems(send, {
    retry: "retry",
    retryAll: "retry_all",
    clear: "clear_failures",
    none: "no failures",
  });
  const unhandled = makeProblems(send, {
    retry: "retry_unhandled",
    retryAll: "retry_all_unhandled",
    refresh: "unhandled",
    none: "no unhandled events",
  });
  const scheduled = makeScheduled(send, activity.style);
  const panels = [
    ["Events", log],
    ["Send", form],
    ["Failures", failures, "failure"],
    ["Unhandled", unhandled, "unhandled"],
    ["Scheduled", scheduled, "scheduled"],
  ];
  const tabs = makeTabs(
    panels.map(([title, { element }, one]) => ({ title, element, one })),
    (title) => {
      if (title === "Unhandled") send({ do: "unhandled" });
      if (title === "Events") log.resize();
    },
  );
  const name = h("b", {});
  const status = h("span", { class: "hn-status", role: "status" });
  const outcome = h("span", { class: "hn-outcome", role: "status" });
  const end = h("p", { class: "hn-quiet" });
  const now = h("button", { class: "hn-asks", onclick: () => moments.seek(null) }, "back to now");
  const title = h("span", { class: "hn-title" }, "Space ", name);
  const root = keepKeys(h("div", { class: "happen hn-dash", role: "region", "aria-label": "Dashboard", onkeydown: shortcuts }));
  const sideTab = makeSideTab(root, () => name.textContent, () => divider);
  const bar = h("div", { class: "hn-line hn-bar" }, title, status, outcome, pace.element, now, sideTab.button);

  let outcomeTimer = null;
  function tell(text, isError = false) {
    outcome.textContent = text;
    outcome.classList.toggle("e", isError);
    clearTimeout(outcomeTimer);
    outcomeTimer = setTimeout(() => { outcome.textContent = ""; }, OUTCOME_MS);
  }

  function scheduleActivity() {
    activityTimer ??= setTimeout(() => {
      activityTimer = null;
      states.showActivity(moments.range(), moments.past());
      if (activity.rates(null).size) scheduleActivity(); // which fade while nothing happens
    }, ACTIVITY_MS);
  }

  function showTime() {
    const [isLive, isPast] = [connection === "live", moments.past() !== null];
    status.textContent = isLive && isPast ? "past" : connection;
    status.classList.toggle("hn-past", isLive && isPast);
    status.classList.toggle("hn-waiting", !isLive);
    end.textContent = ENDS[connection];
    end.hidden = !ENDS[connection];
    for (const each of root.querySelectorAll(".hn-asks")) each.disabled = !end.hidden;
    now.hidden = !isPast;
    form.setPast(isPast && isLive);
  }

  const handlers = {
    all(message) {
      const isOurs = message.request > view && message.request <= view + count;
      if (isFilled || !isOurs) return;
      isFilled = true;
      if (connection !== "closed") connection = "live";
      stopAsking();
      setAnswered();
      name.textContent = message.space;
      sideTab.join();
      log.clear();
      activity.clear();
      log.add(message.log);
      activity.add(message.log);
      moments.setSpace(message.space);
      handlers.tick(message);
      if (message.past !== null) handlers.snapshot({ ...message, at: message.past });
    },
    tick(message) {
      activity.learn(message.nodes ?? []);
      if (message.nodes && moments.past() === null) states.setNodes(message.nodes, message.whole, message.more);
      for (const each of message.children ?? []) states.setChildren(each);
      for (const [node, paths] of message.changed ?? []) states.flashChanged(node, paths);
      if (message.log && message.type === "tick") {
        log.add(message.log);
        activity.add(message.log);
      }
      if (message.queues) states.setQueues(message.queues);
      if (message.pace) pace.set(message.pace);
      if (message.failures) setFailures(message.failures);
      if (message.scheduled) {
        scheduled.set(message.scheduled, message.toCome);
        tabs.setCount(4, message.toCome);
      }
      if ("earlier" in message) log.setEarlier(message.earlier);
      requestUnhandled(message.log);
      moments.set(message);
      scheduleActivity();
    },
    snapshot(message) {
      activity.learn(message.nodes);
      states.setNodes(message.nodes, message.whole, message.more);
      for (const each of message.children ?? []) states.setChildren(each);
      for (const each of [log, failures, unhandled]) each.setLimit(message.at);
      if (message.at !== null && !states.chosen() && message.newest) states.setChosen(nodeOf(message.newest));
      moments.setPast(message.at, message.newest);
      scheduleActivity();
    },
    children: (message) => states.setChildren(message),
    earlier(message) {
      log.add(message.log, { first: true });
      activity.add(message.log);
      log.setEarlier(message.earlier);
    },
    previews: (message) => log.setPreviews(message.previews),
    detail: (message) => log.setDetail(message),
    answer: (message) => form.setAnswer(message) || (message.error && tell(message.text, true)),
    comparison: (message) => moments.setComparison(message),
    done: (message) => tell(message.text),
    problem: (message) => tell(message.text, true),
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
  const columns = h("div", { class: "hn-columns" }, h("div", { class: "hn-left" }, states.element, moments.comparison), tabs.element);
  const divider = makeDivider(columns, () => log.resize());
  root.append(bar, end, moments.element, columns, divider.handle);
  moments.onChange(showTime);

  function shortcuts(event) {
    const isTyping = event.target.matches("input:not([type=range]):not([type=checkbox]), textarea, select");
    if (isTyping || event.key.toLowerCase() !== "n" || isCommand(event)) return;
    moments.nextChange(event.shiftKey ? -1 : 1);
    event.preventDefault();
  }

  el.append(root);
  const receive = whileNotPressed(root, (message) => {
    hasReceived = true; // news arrive while a cell runs, but answers only after it
    handlers[message.type]?.(message);
  });
  model.on("msg:custom", receive);
  const watcher = new ResizeObserver(() => {
    log.resize();
    moments.resize();
  });
  watcher.observe(root);
  watcher.observe(log.box);
  const silenceTimer = setTimeout(() => {
    if (connection === "connecting" && !hasReceived) setEnd(NO_ANSWER);
  }, SILENCE_MS);
  showTime();
  const stopLooking = whenEnded(model, setEnd);
  const stopAsking = askAgain(() => send({ do: "hello" }));
  const setAnswered = untilAnswered(el);
  return () => {
    stopAsking();
    setAnswered();
    stopLooking();
    for (const timer of [silenceTimer, unhandledTimer, activityTimer, outcomeTimer]) clearTimeout(timer);
    model.off("msg:custom", receive);
    moments.stop();
    watcher.disconnect();
    sideTab.leave();
  };
}

export default { initialize, render };
