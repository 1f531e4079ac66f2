// The states: a tree per node, whose containers are requested when they are opened.

const PAGE_SIZE = 100; // children that a container shows at first, and more on each request

function makeStates(send, { activity, choose, copied }) {
  const tree = { class: "hn-tree", role: "tree", "aria-label": "States of the nodes" };
  const list = h("div", { ...tree, onkeydown: keys });
  const nodes = new Map(); // name -> its row
  const stale = new Set(); // rows that are out of sight, drawn when the browser is idle
  const containers = new Map(); // node and path, as JSON -> open container
  let queues = {}; // node -> seconds that it has been busy, and how many events wait
  let chosen = null; // the row of the node whose changes are followed
  const keyOf = (node, path) => JSON.stringify([node, ...path]);

  function makeRow(node, path, label) {
    const value = h("span", { class: "hn-value" });
    const copy = (event) => { event.stopPropagation(); copyPath(row); };
    const button = h("button", { class: "hn-copy", type: "button", tabindex: -1, title: "Copy the path (C)", "aria-label": `Copy the path of ${label}`, onclick: copy }, "copy");
    const head = h("div", { class: "hn-row", role: "treeitem", tabindex: -1 }, h("b", {}, label), " ", value, button);
    const below = h("div", { role: "group", hidden: true });
    const row = { node, path, head, value, below, element: h("div", {}, head, below), opens: false };
    head.addEventListener("click", () => {
      setChosen(node);
      if (row.opens) toggle(row);
    });
    head.row = row;
    return row;
  }

  function copyPath(row) {
    const text = row.path.length ? formatPath(row.path) : row.node;
    copyText(text);
    copied(text);
  }

  function setChosen(node) {
    const row = nodes.get(node);
    if (!row || row === chosen) return;
    chosen?.head.classList.remove("hn-chosen");
    chosen = row;
    row.head.classList.add("hn-chosen");
    choose(node);
  }

  // The activity of the nodes, beside their states.
  function showActivity(range, past) {
    const [rates, bins] = [activity.rates(past), activity.binned(...range)];
    for (const [node, row] of nodes) {
      if (row.isOutOfSight) continue;
      row.mark.setAttribute("style", activity.style(node));
      const picture = activity.spark(node, bins.get(node));
      row.spark.replaceWith(picture);
      row.spark = picture;
      const rate = rates.get(node);
      row.rate.textContent = rate ? `${rate < 10 ? rate.toFixed(1) : commas(Math.round(rate))}/s` : "";
      const [seconds, waiting] = past === null ? (queues[node] ?? [0, 0]) : [0, 0];
      row.queue.textContent = waiting ? `${commas(waiting)} waiting` : seconds ? `busy ${Math.round(seconds)} s` : "";
      row.queue.hidden = !row.queue.textContent;
    }
  }

  function setValue(row, line, opens) {
    const content = JSON.stringify([line, opens]);
    if (row.content === content) return;
    row.content = content;
    row.value.replaceChildren(...spans(line));
    row.opens = opens;
    if (!opens && !row.below.hidden) toggle(row);
    if (opens) row.head.setAttribute("aria-expanded", String(!row.below.hidden));
    else row.head.removeAttribute("aria-expanded");
  }

  function toggle(row) {
    const key = keyOf(row.node, row.path);
    const open = row.below.hidden;
    if (open && !send({ do: "open", node: row.node, path: row.path, limit: PAGE_SIZE })) return;
    row.below.hidden = !open;
    row.head.setAttribute("aria-expanded", String(open));
    if (open) {
      containers.set(key, { row, children: new Map(), limit: PAGE_SIZE });
      return;
    }
    for (const [inner, { row: other }] of [...containers]) {
      if (row.element.contains(other.element)) {
        containers.delete(inner);
        send({ do: "close", node: other.node, path: other.path });
      }
    }
    row.below.replaceChildren();
  }

  function setChildren({ node, path, size, items }) {
    const container = containers.get(keyOf(node, path));
    if (!container) return;
    const kept = new Map();
    items.forEach(([step, label, line, opens]) => {
      const id = JSON.stringify(step);
      const row = container.children.get(id) ?? makeRow(node, [...path, step], label);
      setValue(row, line, opens);
      kept.set(id, row);
    });
    for (const [id, row] of container.children) if (!kept.has(id) && !row.below.hidden) toggle(row);
    container.children = kept;
    const rows = [...kept.values()].map((row) => row.element);
    if (size > items.length) rows.push(moreButton(container, size - items.length));
    const { children: shown } = container.row.below;
    const isSame = rows.length === shown.length && rows.every((row, at) => row === shown[at]);
    if (!isSame) replace(container.row.below, rows);
  }

  function replace(below, rows) {
    const focused = below.contains(document.activeElement) ? document.activeElement : null;
    below.replaceChildren(...rows);
    focused?.focus({ preventScroll: true });
  }

  function moreButton(container, number) {
    const { row } = container;
    const request = () => {
      container.limit += PAGE_SIZE;
      send({ do: "open", node: row.node, path: row.path, limit: container.limit });
    };
    container.more ??= h("button", { class: "hn-more", onclick: request });
    container.more.textContent = `… ${commas(number)} more`;
    return container.more;
  }

  function setNodes(all, whole, more) {
    const names = new Set(all.map(({ name }) => name));
    for (const [name, row] of [...nodes]) if (whole && !names.has(name)) drop(name, row);
    for (const node of all) {
      const existing = nodes.get(node.name);
      const row = existing ?? makeRow(node.name, [], node.name);
      if (!existing) addNode(node.name, row);
      row.summary = node;
      if (!row.isOutOfSight) draw(row);
      else if (stale.add(row).size === 1) requestIdleCallback(drawStale);
    }
    if (more !== undefined) rest.textContent = more ? `… ${commas(more)} more nodes` : "";
    none.hidden = nodes.size > 0;
    if (!list.querySelector("[tabindex='0']")) list.querySelector(".hn-row")?.setAttribute("tabindex", 0);
  }

  function draw(row) {
    const { revision, line, opens } = row.summary;
    const before = row.revision.textContent;
    stale.delete(row);
    row.revision.textContent = revision;
    setValue(row, line, opens);
    if (before && before !== String(revision)) flash(row.head);
    row.head.setAttribute("aria-description", `revision ${revision}`);
  }

  function drawStale(deadline) {
    for (const row of stale) {
      if (deadline.timeRemaining() <= 0) break;
      draw(row);
    }
    if (stale.size) requestIdleCallback(drawStale);
  }

  function addNode(name, row) {
    row.element.row = row;
    sight.observe(row.element);
    row.revision = h("span", { class: "hn-quiet hn-revision", title: "revision" });
    row.mark = h("span", { class: "hn-mark", style: activity.style(name) });
    row.spark = activity.spark(name, null);
    row.rate = h("span", { class: "hn-quiet hn-rate", title: "events and commits per second, in the last ten seconds" });
    row.queue = h("span", { class: "hn-queue", hidden: true, title: "events that wait for a handler of this node" });
    row.head.prepend(row.mark);
    row.head.append(row.queue, row.spark, row.rate, row.revision);
    nodes.set(name, row);
    const next = [...nodes.keys()].sort().find((other) => other > name);
    list.insertBefore(row.element, nodes.get(next)?.element ?? null);
  }

  function drop(name, row) {
    if (!row.below.hidden) toggle(row);
    row.element.remove();
    sight.unobserve(row.element);
    stale.delete(row);
    nodes.delete(name);
    if (row === chosen) chosen = null;
  }

  function flashChanged(node, paths) {
    for (const head of list.querySelectorAll(".hn-last")) if (head.row.node === node) head.classList.remove("hn-last");
    for (const container of containers.values()) {
      if (container.row.node !== node) continue;
      for (const row of container.children.values()) {
        if (!paths.some((path) => overlap(path, row.path))) continue;
        flash(row.head);
        row.head.classList.add("hn-last"); // until the next change
      }
    }
  }

  const overlap = (one, other) => {
    const shorter = Math.min(one.length, other.length);
    for (let at = 0; at < shorter; at++) if (String(one[at]) !== String(other[at])) return false;
    return true;
  };

  function keys(event) {
    const rows = [...list.querySelectorAll(".hn-row")].filter((row) => row.offsetParent);
    const at = rows.indexOf(event.target.closest(".hn-row"));
    if (at < 0) return;
    const { row } = rows[at];
    const move = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (event.key.toLowerCase() === "c" && !event.ctrlKey && !event.metaKey) copyPath(row);
    const toggles = { ArrowRight: row.below.hidden, ArrowLeft: !row.below.hidden, Enter: true, " ": true };
    const parent = () => rows.slice(0, at).findLast((other) => other.row.element.contains(rows[at]));
    if (move !== undefined) focus(rows[move]);
    else if (event.key === "ArrowLeft" && row.below.hidden) focus(parent());
    else if (toggles[event.key] && row.opens) toggle(row);
    else return;
    event.preventDefault();
  }

  function focus(head) {
    if (!head) return;
    list.querySelectorAll("[tabindex='0']").forEach((row) => row.setAttribute("tabindex", -1));
    head.setAttribute("tabindex", 0);
    head.focus();
    setChosen(head.row.node);
  }

  function onSight(changes) {
    for (const { target: { row }, isIntersecting } of changes) {
      row.isOutOfSight = !isIntersecting;
      if (isIntersecting && stale.has(row)) draw(row);
    }
  }

  const none = h("p", { class: "hn-quiet" }, "no nodes yet");
  const rest = h("p", { class: "hn-quiet" });
  const element = h("section", { class: "hn-states" }, none, list, rest);
  const sight = new IntersectionObserver(onSight, { root: element });
  return {
    element,
    names: () => [...nodes.keys()],
    chosen: () => chosen?.node ?? null,
    setChosen,
    setQueues: (all) => { queues = all; },
    showActivity,
    setNodes,
    setChildren,
    flashChanged,
  };
}
