// A button that cancels a reply.

function render({ model, el }) {
  const button = h("button", { type: "button", onclick: cancel }, "cancel");
  el.append(keepKeys(h("div", { class: "happen hn-cancel" }, button)));

  function cancel() {
    sendTo(model, { do: "cancel" });
    button.disabled = true;
    button.textContent = "cancelling …";
  }
}

export default { initialize, render };
