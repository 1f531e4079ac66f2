// The moments of a space: a slider with marks, buttons that step and play, and the differences between then and now.

const SPEEDS = [["1×", 250], ["4×", 60], ["16×", 16]]; // the pause between two entries while playing, in ms
const PLAYED_AT_ONCE = 4; // entries, at the highest speed
const MARKS_MS = 500; // between two drawings of the marks
const ARROWS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };

function makeMoments({ send, log, activity, chosen }) {
  let [first, last, past, newest] = [1, 1, null, null];
  let now = null; // the time in ms of a manual clock
  let [playing, marksTimer] = [null, null];
  let shown = null; // the point in time whose states are shown
  let asked; // the point in time that is requested; undefined once it is answered
  const changed = [];

  const play = iconButton("▶", "Play", () => (playing ? pause() : start()));
  const speed = h("select", { "aria-label": "Speed" }, ...SPEEDS.map(([text, pause]) => h("option", { value: pause }, text)));
  const slide = () => { pause(); seek(Number(slider.value) >= last ? null : Number(slider.value)); };
  const slider = h("input", { type: "range", step: 1, "aria-label": "Point in time", oninput: slide, onkeydown: slideByKey });
  const marks = h("div", { class: "hn-track" });
  const timeText = h("output", { class: "hn-quiet" });
  const nextButton = iconButton("next change", "Go to the next change of the chosen node (N)", () => nextChange(1));
  const line = h("div", { class: "hn-line hn-time" },
    play, iconButton("◂", "Previous entry", () => step(-1)), iconButton("▸", "Next entry", () => step(1)), speed,
    nextButton, timeText);
  const element = h("fieldset", { class: "hn-asks" }, line, h("div", { class: "hn-slide" }, marks, slider));

  const heading = h("b", {});
  const changes = h("div", { class: "hn-changes" });
  const name = h("input", { "aria-label": "Name of the new space", size: 14, autocomplete: "off", spellcheck: "false" });
  const revert = iconButton("revert to here", "Commit the state that this node had here", () => send({ do: "revert", node: chosen() }));
  const fork = iconButton("fork from here", "Make a new space that starts from here", () => send({ do: "fork", name: name.value.trim() }));
  const comparison = h("section", { class: "hn-compare", "aria-label": "Then and now", hidden: true },
    h("div", { class: "hn-line" }, heading), changes, h("fieldset", { class: "hn-asks hn-line hn-ways" }, revert, fork, name));

  function seek(sequence) {
    if (element.disabled) return;
    past = asked = sequence;
    send({ do: "at", sequence });
    show();
  }

  function step(by, count = 1) {
    if (element.disabled) return false;
    let to = past ?? last + (by < 0 ? 1 : 0);
    for (let at = 0; at < count && to !== undefined; at++) to = log.near(to, by);
    if (to !== undefined) seek(by > 0 && to >= last ? null : to);
    else if (by > 0 && past !== null) seek(null); // nothing later is stored
    return past !== null;
  }

  // An arrow key goes to the next entry: most messages between two entries change nothing that is shown.
  function slideByKey(event) {
    const by = ARROWS[event.key];
    if (!by || isCommand(event)) return;
    const before = past;
    pause();
    step(by);
    if (past !== before) event.preventDefault();
  }

  function nextChange(by) {
    const node = chosen();
    if (!node || element.disabled) return;
    const to = log.near(past ?? last + (by < 0 ? 1 : 0), by, (entry) => entry[2] === "commit" && nodeOf(entry) === node);
    pause();
    if (to !== undefined) seek(by > 0 && to >= last ? null : to);
    else if (by > 0 && past !== null) timeText.textContent = `no later change of ${node}`;
  }

  function showPlay(text, label) {
    play.textContent = text;
    play.title = label;
    play.setAttribute("aria-label", label);
  }

  function start() {
    if (past === null) seek(first);
    showPlay("❚❚", "Pause");
    const next = () => {
      const pause_ = Number(speed.value);
      playing = setTimeout(() => (step(1, pause_ < 20 ? PLAYED_AT_ONCE : 1) ? next() : pause()), Math.max(pause_, 50));
    };
    next();
  }

  function pause() {
    clearTimeout(playing);
    playing = null;
    showPlay("▶", "Play");
  }

  function show() {
    slider.min = first;
    slider.max = last;
    slider.value = past ?? last;
    const nowText = now === null ? "" : `now ${dateTime(now)} UTC`;
    timeText.textContent = past === null ? nowText : log.textAt(past) || (newest ? log.text(newest) : "");
    slider.setAttribute("aria-valuetext", past === null ? nowText || "now" : timeText.textContent || `position ${past}`);
    for (const each of changed) each(past);
    scheduleMarks();
  }

  function scheduleMarks() {
    marksTimer ??= setTimeout(drawMarks, MARKS_MS);
  }

  function drawMarks() {
    clearTimeout(marksTimer);
    marksTimer = null;
    const width = marks.clientWidth;
    if (width) marks.replaceChildren(activity.marks(first, last, width));
  }

  function compare() {
    comparison.hidden = past === null || !chosen();
    if (comparison.hidden || element.disabled) return;
    revert.textContent = `revert ${chosen()} to here`;
    send({ do: "compare", node: chosen() });
  }

  function setComparison({ node, at, changes: found, more }) {
    if (at !== past || node !== chosen()) return;
    const count = found.length + more;
    heading.textContent = `${node}: then → now · ${count ? counted(count, "difference") : "no difference"}`;
    const rows = found.map(([sign, path, value]) => h("div", {}, h("b", {}, sign, " ", path), "  ", ...spans(value)));
    if (more) rows.push(h("div", { class: "hn-quiet" }, `… ${commas(more)} more`));
    changes.replaceChildren(...rows);
  }

  return {
    element,
    comparison,
    seek,
    nextChange,
    compare,
    setComparison,
    past: () => past,
    set(message) {
      first = message.first ?? first;
      last = message.last ?? last;
      now = message.now ?? now;
      show();
    },
    setPast(at, itsNewest) {
      shown = at;
      if (asked === undefined || asked === at) [past, asked] = [at, undefined]; // else a later one was requested since
      newest = itsNewest;
      show();
      compare();
    },
    rest() { // nothing more is answered
      pause();
      [past, asked] = [shown, undefined];
      show();
    },
    setSpace: (space) => { name.value ||= `${space}-fork`; },
    onChange: (act) => changed.push(act),
    range: () => [first, last],
    resize: drawMarks,
    stop: () => { pause(); clearTimeout(marksTimer); },
  };
}
