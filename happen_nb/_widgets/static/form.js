// A form that sends an event or sets a value in a state.

function makeForm(send, names) {
  const nodes = h("datalist", { id: newId("nodes") });
  const plainText = { autocomplete: "off", spellcheck: "false" };
  const field = (name, attributes, tag = "input") => h(tag, { name, ...plainText, ...attributes });
  const kinds = [
    ["broadcast", "broadcast an event"],
    ["send", "send an event to a node"],
    ["set", "set a value in a state"],
  ];
  const options = kinds.map(([value, text]) => h("option", { value }, text));
  const kind = h("select", { onchange: adapt }, ...options);
  const node = field("node", { list: nodes.id, placeholder: "node", onfocus: fill });
  const name = field("name", { placeholder: "order.paid" });
  const value = field("value", { rows: 3, placeholder: '{"id": "o1"}' }, "textarea");
  const button = h("button", { type: "submit" }, "send");
  const answer = h("pre", { class: "hn-detail", role: "status", "aria-live": "polite" });
  const labels = { name: h("span", {}), value: h("span", {}) };
  const nodeLabel = h("label", {}, h("span", {}, "node"), node);
  const form = h("form", { class: "hn-form", onsubmit: submit, onkeydown: keys },
    h("label", {}, h("span", {}, "action"), kind), nodeLabel,
    h("label", {}, labels.name, name), h("label", {}, labels.value, value), button, answer, nodes);

  function fill() {
    nodes.replaceChildren(...names().map((node) => h("option", { value: node })));
  }

  function adapt() {
    const set = kind.value === "set";
    nodeLabel.hidden = kind.value === "broadcast";
    labels.name.textContent = set ? "path" : "type";
    labels.value.textContent = set ? "value, as JSON" : "payload, as JSON";
    name.placeholder = set ? "orders.o1.status" : "order.paid";
    value.placeholder = set ? '"shipped"' : '{"id": "o1"}';
    button.textContent = set ? "set" : "send";
  }

  function keys(event) {
    const submits = event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.shiftKey;
    if (event.key !== "Enter" || event.target.tagName === "BUTTON" || !submits) return;
    event.preventDefault(); // JupyterLab prevents Enter from submitting
    if (!button.disabled) form.requestSubmit();
  }

  let request = 0;
  function submit(event) {
    event.preventDefault();
    const fields = { node: node.value.trim(), name: name.value.trim(), value: value.value };
    request = send({ do: "act", kind: kind.value, ...fields });
    answer.textContent = "…";
    answer.classList.remove("e");
  }

  adapt();
  return {
    element: form,
    setPast: (past) => { button.disabled = past; button.title = past ? "go back to now first" : ""; },
    setAnswer: ({ request: answered, text, error }) => {
      if (answered !== request) return false;
      answer.textContent = text;
      answer.tabIndex = 0;
      answer.classList.toggle("e", Boolean(error));
      return true;
    },
  };
}
