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
      list.children[at].times.textContent = times > 1 ? ` ×${times.toLocaleString("en")}` : "";
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
    element: h("div", {}, h("div", { class: "hn-line" }, ...buttons.filter(Boolean)), status, empty, list),
    set: (all) => { problems = all; draw(); },
    setLimit: (sequence) => { limit = sequence ?? Infinity; draw(); },
    setStatus: (text) => { status.textContent = text; },
  };
}
