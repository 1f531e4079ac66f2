// Sending an event, and setting a place in a state.

function makeForm(tell, names) {
  const nodes = h("datalist", { id: newId("nodes") });
  const plainText = { autocomplete: "off", spellcheck: "false" };
  const field = (name, attributes, tag = "input") => h(tag, { name, ...plainText, ...attributes });
  const kinds = [
    ["broadcast", "broadcast an event"],
    ["send", "send an event to a node"],
    ["set", "set a place in a state"],
  ];
  const options = kinds.map(([value, text]) => h("option", { value }, text));
  const kind = h("select", { onchange: adapt }, ...options);
  const node = field("node", { list: nodes.id, placeholder: "node", onfocus: fill });
  const what = field("what", { placeholder: "order.paid" });
  const value = field("value", { rows: 3, placeholder: '{"id": "o1"}' }, "textarea");
  const button = h("button", { type: "submit" }, "send");
  const answer = h("pre", { class: "hn-detail", role: "status", "aria-live": "polite" });
  const labels = { what: h("span", {}), value: h("span", {}) };
  const nodeLabel = h("label", {}, h("span", {}, "node"), node);
  const form = h("form", { class: "hn-form", onsubmit: submit, onkeydown: keys },
    h("label", {}, h("span", {}, "do"), kind), nodeLabel,
    h("label", {}, labels.what, what), h("label", {}, labels.value, value), button, answer, nodes);

  function fill() {
    nodes.replaceChildren(...names().map((name) => h("option", { value: name })));
  }

  function adapt() {
    const set = kind.value === "set";
    nodeLabel.hidden = kind.value === "broadcast";
    labels.what.textContent = set ? "path" : "type";
    labels.value.textContent = set ? "value, as JSON" : "payload, as JSON";
    what.placeholder = set ? "orders.o1.status" : "order.paid";
    value.placeholder = set ? '"shipped"' : '{"id": "o1"}';
    button.textContent = set ? "set" : "send";
  }

  function keys(event) {
    const ends = event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.shiftKey;
    if (event.key !== "Enter" || event.target.tagName === "BUTTON" || !ends) return;
    event.preventDefault(); // JupyterLab keeps Enter from submitting
    if (!button.disabled) form.requestSubmit();
  }

  let asked = 0;
  function submit(event) {
    event.preventDefault();
    const [to, name] = [node.value.trim(), what.value.trim()];
    asked = tell({ do: "act", kind: kind.value, node: to, what: name, value: value.value });
    answer.textContent = "…";
    answer.classList.remove("e");
  }

  adapt();
  return {
    element: form,
    setPast: (past) => { button.disabled = past; button.title = past ? "go back to now first" : ""; },
    setAnswer: ({ ask, text, error }) => {
      if (ask !== asked) return;
      answer.textContent = text;
      answer.tabIndex = 0;
      answer.classList.toggle("e", Boolean(error));
    },
  };
}
