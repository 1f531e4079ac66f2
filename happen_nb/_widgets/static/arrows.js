// Draws the arrows of the mark under the pointer, in the figures beside this widget, which itself is hidden.

const HEAD_PX = 7;

const element = (figure, name) => document.createElementNS(figure.querySelector("svg").namespaceURI, name);
const belongsTo = ({ x, y }) => (arrow) => arrow.clicktoshow && arrow.xclick === x && arrow.yclick === y;

function draw(figure, arrow) {
  const { xaxis, yaxis } = figure._fullLayout;
  const place = (x, y) => [xaxis._offset + xaxis.d2p(x), yaxis._offset + yaxis.d2p(y)];
  let [[x0, y0], [x, y]] = [place(arrow.ax, arrow.ay), place(arrow.x, arrow.y)];
  const length = Math.hypot(x - x0, y - y0) || 1;
  const [right, down] = [(x - x0) / length, (y - y0) / length];
  [x0, y0] = [x0 + right * arrow.startstandoff, y0 + down * arrow.startstandoff];
  [x, y] = [x - right * arrow.standoff, y - down * arrow.standoff];
  const wing = (side) => `${x - HEAD_PX * (right + side * down * 0.5)} ${y - HEAD_PX * (down - side * right * 0.5)}`;
  const path = element(figure, "path");
  path.setAttribute("d", `M ${x0} ${y0} L ${x} ${y} M ${wing(1)} L ${x} ${y} L ${wing(-1)}`);
  path.setAttribute("stroke", arrow.arrowcolor);
  path.setAttribute("stroke-width", arrow.arrowwidth);
  path.setAttribute("fill", "none");
  return path;
}

const followed = new WeakMap(); // figure -> its `on`, which plotly replaces when it draws a figure from scratch

function follow(figure) {
  const box = figure.querySelector(":scope > .hn-arrows") ?? element(figure, "svg");
  box.setAttribute("class", "hn-arrows");
  box.setAttribute("aria-hidden", "true");
  box.style.cssText = "position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; z-index: 1";
  figure.append(box);
  const clear = () => box.replaceChildren();
  figure.on("plotly_hover", ({ points }) => {
    const arrows = (figure.layout.annotations ?? []).filter(belongsTo(points[0]));
    box.replaceChildren(...arrows.map((arrow) => draw(figure, arrow)));
  });
  for (const event of ["plotly_unhover", "plotly_relayout", "plotly_relayouting"]) figure.on(event, clear);
}

function render({ el }) {
  const child = el.closest(".jp-OutputArea-child");
  if (child) child.style.display = "none";
  const area = el.closest(".jp-OutputArea") ?? document.body;
  const followHovered = ({ target }) => {
    const figure = target.closest(".js-plotly-plot");
    if (!figure?.on || followed.get(figure) === figure.on) return;
    followed.set(figure, figure.on);
    follow(figure);
  };
  area.addEventListener("mouseover", followHovered);
  return () => area.removeEventListener("mouseover", followHovered);
}

export default { render };
