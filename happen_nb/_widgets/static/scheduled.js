// What is to come: the next scheduled events, each with the time at which it is due.

function makeScheduled(send, styleOf) {
  const list = h("ul", { class: "hn-list hn-due" });
  const empty = h("p", { class: "hn-quiet" }, "nothing is scheduled");
  const more = h("p", { class: "hn-quiet" });

  function item({ id, ms, sender, text }) {
    const when = new Date(ms).toISOString();
    const cancel = h("button", { type: "button", "aria-label": `cancel ${text}`, onclick: () => send({ do: "cancelScheduled", id }) }, "cancel");
    const ring = h("span", { class: "hn-ring", style: styleOf(sender), "aria-hidden": "true" });
    const due = h("time", { datetime: when, title: `${when.slice(0, 19).replace("T", " ")} UTC` }, `${when.slice(0, 10)} ${when.slice(11, 19)}`);
    return h("li", { "data-id": `${id} ${ms}` }, h("div", {}, ring, due, " ", text), cancel);
  }

  return {
    element: h("div", {}, empty, list, more),
    set(events, number) {
      const existing = new Map([...list.children].map((each) => [each.dataset.id, each]));
      list.replaceChildren(...events.map((event) => existing.get(`${event.id} ${event.ms}`) ?? item(event)));
      empty.hidden = number > 0;
      more.hidden = number <= events.length;
      more.textContent = `… ${(number - events.length).toLocaleString("en")} later`;
    },
  };
}
