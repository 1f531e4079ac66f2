// Copies text, such as the path of a value as `state.get` takes it.

const python = (step) => (typeof step === "number" ? String(step) : JSON.stringify(step));
const isPlain = (step) => typeof step === "number" || (step !== "" && !step.includes("."));

function formatPath(steps) {
  if (steps.length && steps.every(isPlain)) return steps.join(".");
  return `(${steps.map(python).join(", ")}${steps.length === 1 ? "," : ""})`;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that was not loaded over a secure connection has no clipboard
    const area = h("textarea", { style: "position: fixed; opacity: 0", "aria-hidden": "true" }, text);
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus();
  }
}
