// What went wrong, and can be tried again: failures, and events that nobody heard.

function makeProblems(tell, { retry, retryAll, clear, look, none }) {
  const list = h("ul", { class: "hn-list" });
  const empty = h("p", { class: "hn-quiet" }, none);
  const said = h("p", { class: "e", role: "status", "aria-live": "polite" });
  const all = h("button", { onclick: () => tell({ do: retryAll }) }, "retry all");
  const button = (what, text) => what && h("button", { onclick: () => tell({ do: what }) }, text);
  const buttons = [all, button(clear, "forget all"), button(look, "look again")];
  let limit = Infinity;
  let problems = [];

  function draw() {
    const shown = problems.filter(({ sequence }) => !sequence || sequence <= limit);
    const kept = new Map([...list.children].map((item) => [item.dataset.id, item]));
    list.replaceChildren(...shown.map((problem) => kept.get(String(problem.id)) ?? item(problem)));
    shown.forEach(({ times }, at) => {
      list.children[at].times.textContent = times > 1 ? ` ×${times.toLocaleString("en")}` : "";
    });
    empty.hidden = shown.length > 0;
    all.disabled = !shown.length;
  }

  function item({ id, line, detail }) {
    const times = h("span", { class: "hn-quiet" });
    const again = h("button", { onclick: () => tell({ do: retry, id }) }, "retry");
    const head = h("summary", {}, ...spans(line), times);
    const folded = h("details", {}, head, h("pre", { class: "hn-detail", tabindex: 0 }, detail));
    const made = h("li", {}, detail ? folded : h("div", {}, ...head.childNodes), again);
    made.dataset.id = id;
    made.times = times;
    return made;
  }

  return {
    element: h("div", {}, h("div", { class: "hn-line" }, ...buttons.filter(Boolean)), said, empty, list),
    set: (all) => { problems = all; draw(); },
    setLimit: (sequence) => { limit = sequence ?? Infinity; draw(); },
    say: (text) => { said.textContent = text; },
  };
}
