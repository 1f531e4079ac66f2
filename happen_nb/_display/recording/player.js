// The player: what is shown of which record, and when the next one comes.

const SPEEDS = [0.5, 1, 4, 16];
const PAGE_SECONDS = 7; // to play from the left to the right at speed 1
const MAX_CARDS = 24;
const DETAIL_MS = 120; // between two updates of the details while playing

class Player {
  constructor(model) {
    this.model = model;
    this.steps = model.steps;
    this.at = 0;
    this.time = 0;
    this.speed = 1;
    this.lanes = new Lanes(model, $("lanes"));
    this.track = new Track(model, this.lanes, $("track"));
    this.states = new States(model, this.lanes, $("states"));
    this.details = new Details(model, (at) => this.go(at));
    this.described = undefined;
  }

  get step() { return this.steps[this.at]; }

  go(at) {
    this.pause();
    this.at = Math.max(0, Math.min(this.steps.length - 1, at));
    this.time = this.step.time;
    this.show();
  }

  show(now = Infinity) {
    const { step } = this;
    this.lanes.show(step, this.time);
    const where = `${commas(this.at + 1)} of ${commas(this.steps.length)}`;
    const when = momentOf(this.model, step) ?? `+${duration(this.time)}`;
    this.track.show(this.at, `${where}, ${when}`);
    this.states.show(step);
    $("where").textContent = `${where} · ${when}`;
    if (this.described === step || now - this.describedAt < DETAIL_MS) return;
    [this.described, this.describedAt] = [step, now === Infinity ? 0 : now];
    $("now").replaceChildren(...this.details.of(step).flat(Infinity).filter(Boolean));
    $("now").scrollTop = 0;
  }

  redraw() {
    this.lanes.page = undefined;
    this.track.paint();
    this.states.shown = undefined;
    this.show();
  }

  // -- playing

  get playing() { return this.frame !== undefined; }

  play() {
    if (this.at >= this.steps.length - 1) this.go(0);
    this.label("❚❚", "Pause");
    let last = performance.now();
    const tick = (now) => {
      const seconds = Math.max(0, now - last) / 1000;
      last = now;
      this.frame = requestAnimationFrame(tick);
      this.advance(seconds * this.speed);
      if (this.at >= this.steps.length - 1) this.go(this.at);
      else this.show(now);
    };
    this.frame = requestAnimationFrame(tick);
  }

  advance(seconds) { // the playhead moves evenly over the picture, whatever time that is
    const { lanes, steps } = this, { axis } = lanes;
    const x = axis.x(this.time) + seconds * (axis.width / PAGE_SECONDS);
    this.time = Math.max(this.time, axis.time(Math.min(axis.width, x)));
    const last = Math.min(steps.length, (lanes.page + 1) * PAGE_STEPS);
    const reached = countUpTo(steps, this.time, timeOf) - 1;
    if (x >= axis.width || reached >= last) this.at = Math.min(Math.max(reached, this.at), last);
    else this.at = Math.max(this.at, reached);
    this.at = Math.min(this.at, steps.length - 1);
    if (x >= axis.width && this.at < last) this.at = Math.min(last, steps.length - 1);
    if (Math.floor(this.at / PAGE_STEPS) !== lanes.page) this.time = steps[this.at].time;
  }

  pause() {
    if (!this.playing) return;
    cancelAnimationFrame(this.frame);
    this.frame = undefined;
    this.label("▶", "Play");
    this.show();
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }

  label(sign, text) {
    const [first, second] = $("play").children;
    [first.textContent, second.textContent] = [sign, text];
  }

  setSpeed(speed) {
    this.speed = speed;
    for (const button of $("speeds").children) button.setAttribute("aria-pressed", String(Number(button.value) === speed));
  }

  changeSpeed(by) {
    const index = SPEEDS.indexOf(this.speed) + by;
    if (index in SPEEDS) this.setSpeed(SPEEDS[index]);
  }

  // -- jumps

  goToCause() {
    const causes = causesOf(this.step, this.model.events).filter((event) => event !== this.step);
    if (causes.length) this.go(causes.at(-1).at);
  }

  goToEffect() {
    const [effect] = this.step.kind === "event" ? this.step.effects : [];
    if (effect) this.go(effect.at);
  }

  goToNext(matches) {
    const found = this.steps.find((step, at) => at > this.at && matches(step)) ?? this.steps.find(matches);
    if (found) this.go(found.at);
  }
}

// The whole recording in one row of marks for each lane, with the playhead: a slider.

class Track {
  constructor(model, lanes, box) {
    Object.assign(this, { model, lanes, box, screen: box.querySelector("canvas") });
    box.setAttribute("aria-valuemax", String(model.steps.length));
  }

  paint() {
    const rows = this.lanes.lanes.length, row = Math.max(1, Math.min(5, 48 / rows));
    this.colours = readColours();
    this.size = [Math.max(60, this.box.clientWidth), Math.ceil(rows * row) + 6];
    this.picture = document.createElement("canvas");
    const pen = canvas(this.picture, ...this.size);
    canvas(this.screen, ...this.size);
    pen.fillStyle = this.colours.raised;
    pen.fillRect(0, 0, ...this.size);
    const wide = Math.max(1, Math.min(5, this.x(1) - this.x(0) - 1));
    for (const step of this.model.steps) {
      const place = this.lanes.places.get(step.node), failed = step.kind === "handling";
      pen.globalAlpha = failed ? 1 : 0.75;
      pen.fillStyle = failed ? this.colours.error : this.colours[place.lane.colour];
      pen.fillRect(this.x(step.at) - wide / 2, 3 + place.row * row, failed ? Math.max(2.5, wide) : wide, Math.max(1, row - 1));
    }
  }

  x(at) { return 4 + (at / Math.max(1, this.model.steps.length - 1)) * (this.size[0] - 8); }

  at(x) { return Math.round(((x - 4) / (this.size[0] - 8)) * (this.model.steps.length - 1)); }

  show(at, text) {
    const pen = copyOnto(this.screen, this.picture), [width, height] = this.size, x = this.x(at);
    pen.globalAlpha = 0.6;
    pen.fillStyle = this.colours.back;
    pen.fillRect(x, 0, width - x, height);
    pen.globalAlpha = 1;
    pen.fillStyle = this.colours.text;
    pen.fillRect(x - 1, 0, 2, height);
    pen.beginPath();
    pen.moveTo(x - 5, 0);
    pen.lineTo(x + 5, 0);
    pen.lineTo(x, 6);
    pen.fill();
    this.box.setAttribute("aria-valuenow", String(at + 1));
    this.box.setAttribute("aria-valuetext", text);
  }
}

// A card for each node with a state; of many nodes, for those that changed last.

class States {
  constructor(model, lanes, box) {
    Object.assign(this, { model, lanes, box, cards: new Map(), commits: new Map(), starts: new Map() });
    for (const [node, revision, , , state] of model.start) this.starts.set(node, { revision, state, diff: [] });
    for (const commit of model.commits) {
      if (!this.commits.has(commit.node)) this.commits.set(commit.node, []);
      this.commits.get(commit.node).push(commit);
    }
    const order = nodesInOrder(model), position = new Map(order.map((node, index) => [node, index]));
    this.nodes = [...new Set([...this.starts.keys(), ...this.commits.keys()])].sort((a, b) => (position.get(a) ?? 1e9) - (position.get(b) ?? 1e9));
  }

  newest(node, at) {
    const commits = this.commits.get(node) ?? [];
    return commits[countUpTo(commits, at, (each) => each.at) - 1] ?? this.starts.get(node);
  }

  show(step) {
    const shown = this.nodesAt(step.at), key = shown.join();
    if (key !== this.shown) {
      this.shown = key;
      for (const node of shown) if (!this.cards.has(node)) this.cards.set(node, new Card(this.model.nodes[node]));
      this.box.replaceChildren(...shown.map((node) => this.cards.get(node).box));
      for (const node of shown) this.cards.get(node).box.style.setProperty("--node", `var(--${this.lanes.colourOf(node)})`);
    }
    for (const node of shown) {
      const commit = this.newest(node, step.at);
      this.cards.get(node).show(commit, step === commit);
    }
  }

  nodesAt(at) {
    if (this.nodes.length <= MAX_CARDS) return this.nodes;
    const found = new Set();
    for (let back = at; back >= 0 && found.size < MAX_CARDS / 2; back--) if (this.model.steps[back].kind === "commit") found.add(this.model.steps[back].node);
    for (const node of this.nodes) if (found.size < MAX_CARDS / 2) found.add(node);
    return this.nodes.filter((node) => found.has(node));
  }
}

class Card {
  constructor(name) {
    this.revision = h("span");
    this.body = h("div", { class: "tree", tabindex: 0, role: "group", "aria-label": `State of ${name}` });
    this.box = h("article", { class: "card" }, h("h2", null, h("b", { title: name }, name), this.revision), this.body);
  }

  show(commit, changes) {
    if (this.commit === commit && this.changes === changes && this.filled) return;
    Object.assign(this, { commit, changes, filled: true });
    this.box.classList.toggle("changed", changes);
    this.revision.textContent = commit ? `revision ${commas(commit.revision)}` : "";
    this.body.replaceChildren(this.content(commit, changes));
    const mark = this.body.querySelector(".new");
    if (mark) this.body.scrollTop = mark.offsetTop - this.body.offsetTop - this.body.clientHeight / 2;
  }

  content(commit, changes) {
    if (!commit) return h("span", { class: "quiet" }, "no state yet");
    if (commit.deleted) return h("span", { class: "quiet" }, "deleted");
    const state = stateOf(commit);
    return Object.keys(state).length ? tree(state, changes ? marksOf(commit.diff) : undefined) : brief(state);
  }
}

// -- the page -------------------------------------------------------------------------------------------

function describe(model) {
  const failures = model.steps.filter((step) => step.kind === "handling").length;
  const parts = [counted(model.events.length, "event"), counted(model.commits.length, "commit")];
  if (failures) parts.push(counted(failures, "failure"));
  parts.push(duration(model.until), `${new Date(model.started / 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`);
  document.title = $("title").textContent = model.title;
  $("totals").textContent = parts.join(" · ");
  $("failure").hidden = !failures;
  if (model.partial) {
    $("notice").hidden = false;
    $("notice").textContent = "These are the newest records. The older ones did not fit into the file.";
  }
}

const THEMES = { light: "Dark theme", dark: "Light theme" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = THEMES[theme];
}

function connectThemes(redraw) {
  const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  let chosen;
  const preferred = () => chosen ?? (dark.matches ? "dark" : "light");
  const use = (theme) => { setTheme(theme); redraw(); };
  dark.addEventListener("change", () => use(preferred()));
  $("theme").addEventListener("click", () => use((chosen = root.dataset.theme === "dark" ? "light" : "dark")));
  addEventListener("beforeprint", () => use("light"));
  addEventListener("afterprint", () => use(preferred()));
  setTheme(preferred());
}

function connectControls(player) {
  const on = (id, work) => $(id).addEventListener("click", work);
  on("play", () => player.toggle());
  on("first", () => player.go(0));
  on("back", () => player.go(player.at - 1));
  on("on", () => player.go(player.at + 1));
  on("last", () => player.go(Infinity));
  on("failure", () => player.goToNext((step) => step.kind === "handling"));
  $("speeds").append(...SPEEDS.map((speed) => h("button", { type: "button", value: speed, onclick: () => player.setSpeed(speed) }, `${speed}×`)));
  player.setSpeed(1);
  $("names").addEventListener("click", (click) => {
    const { stem } = click.target.closest("[data-stem]")?.dataset ?? {};
    if (stem === undefined) return;
    player.lanes.toggle(stem);
    player.redraw();
    [...$("names").querySelectorAll("[data-stem]")].find((each) => each.dataset.stem === stem)?.focus();
  });
  player.lanes.screen.addEventListener("click", (click) => player.go(player.lanes.nearest(click.offsetX, click.offsetY).at));
}

function connectTrack(player) {
  const { box } = player.track;
  const follow = (pointer) => player.go(player.track.at(pointer.clientX - box.getBoundingClientRect().left));
  box.addEventListener("pointerdown", (pointer) => {
    box.setPointerCapture(pointer.pointerId);
    follow(pointer);
  });
  box.addEventListener("pointermove", (pointer) => box.hasPointerCapture(pointer.pointerId) && follow(pointer));
}

function connectKeys(player) {
  const keys = {
    " ": () => player.toggle(),
    ArrowRight: (key) => player.go(player.at + (key.shiftKey ? 10 : 1)),
    ArrowLeft: (key) => player.go(player.at - (key.shiftKey ? 10 : 1)),
    ArrowUp: () => player.goToCause(),
    ArrowDown: () => player.goToEffect(),
    Home: () => player.go(0),
    End: () => player.go(Infinity),
    n: () => player.goToNext((step) => step.kind === "commit" && step.node === player.step.node),
    f: () => player.goToNext((step) => step.kind === "handling"),
    "+": () => player.changeSpeed(1),
    "=": () => player.changeSpeed(1),
    "-": () => player.changeSpeed(-1),
  };
  addEventListener("keydown", (key) => {
    const scrolls = key.target.closest?.(".card .tree, pre, #now"), vertical = key.key === "ArrowUp" || key.key === "ArrowDown";
    const work = keys[key.key.length === 1 ? key.key.toLowerCase() : key.key];
    if (!work || key.ctrlKey || key.metaKey || key.altKey || (scrolls && vertical)) return;
    if (key.key === " " && key.target.closest?.("button")) return;
    key.preventDefault();
    work(key);
  });
}

async function main() {
  const model = readModel(await unpack($("data").textContent));
  let player;
  connectThemes(() => player?.redraw());
  describe(model);
  if (!model.steps.length) {
    $("totals").textContent = "Nothing happened in this time.";
    for (const id of ["controls", "track", "lanes", "legend", "below"]) $(id).hidden = true;
    return;
  }
  player = new Player(model);
  player.track.paint();
  player.go(Infinity); // all of it is to be seen, and the play button starts from the beginning
  connectControls(player);
  connectTrack(player);
  connectKeys(player);
  let width = document.body.clientWidth;
  new ResizeObserver(() => {
    if (Math.abs(document.body.clientWidth - width) < 1) return; // only higher
    width = document.body.clientWidth;
    player.redraw();
  }).observe(document.body);
  document.body.dataset.ready = "true";
  if (location.hash === "#play" && !matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
}

main();
