// A click needs a press and a release on the same element, so changes that could replace it wait that long.

const MAX_PRESS_MS = 500;

function whileNotPressed(element, apply) {
  let held = null; // changes that wait while the pointer is down
  let timer = null;
  const release = () => {
    clearTimeout(timer);
    const waiting = held ?? [];
    held = null;
    waiting.forEach((each) => apply(each));
  };
  element.addEventListener("pointerdown", ({ target }) => {
    if (held || target.closest("input")) return; // a slider is pressed while it is dragged
    held = [];
    timer = setTimeout(release, MAX_PRESS_MS);
    window.addEventListener("pointerup", () => setTimeout(release), { once: true }); // after the click
  });
  return (each) => (held ? held.push(each) : apply(each));
}
