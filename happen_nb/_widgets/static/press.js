// A click needs a press and a release of the same element: what would replace it waits as long, but not for ever.

const PRESS = 500; // ms

function unlessPressed(element, apply) {
  let held = null; // what waits while something is pressed
  let ends = null;
  const release = () => {
    clearTimeout(ends);
    const waiting = held ?? [];
    held = null;
    waiting.forEach((each) => apply(each));
  };
  element.addEventListener("pointerdown", ({ target }) => {
    if (held || target.closest("input")) return; // a slider is pressed while it is dragged
    held = [];
    ends = setTimeout(release, PRESS);
    window.addEventListener("pointerup", () => setTimeout(release), { once: true }); // after the click
  });
  return (each) => (held ? held.push(each) : apply(each));
}
