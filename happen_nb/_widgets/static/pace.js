// The buttons that pause a space, step through the events that wait, and resume.

function makePace(send) {
  let isOpen = true; // nothing waits
  const held = h("span", { class: "hn-held", hidden: true });
  const step = h("button", { type: "button", disabled: true, onclick: () => send({ do: "step" }) }, "step");
  const toggle = h("button", { type: "button", onclick: () => send({ do: isOpen ? "pause" : "resume" }) }, "pause");

  function set({ paused, slow, held: number }) {
    isOpen = paused === null && slow === null;
    toggle.textContent = isOpen ? "pause" : "resume";
    step.disabled = paused === null;
    held.hidden = isOpen;
    held.textContent = `${paused === null ? "slow" : "paused"} · ${number.toLocaleString("en")} held`;
    held.title = paused === null ? `${slow} s before each event` : `events that match ${paused} wait`;
  }

  return { element: h("span", { class: "hn-pace", role: "group", "aria-label": "Pace" }, held, step, toggle), set };
}
