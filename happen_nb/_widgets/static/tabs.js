// Tabs: one of several panels is shown.

function makeTabs(panels, onChange) {
  let current = null;
  const bar = h("div", { role: "tablist", class: "hn-tabs", onkeydown: keys });
  const tabs = panels.map(({ title }, at) => {
    const tab = h("button", { role: "tab", type: "button", onclick: () => choose(at) }, title);
    bar.append(tab);
    return tab;
  });
  const shown = panels.map(({ title, element }) => h("div", { role: "tabpanel", "aria-label": title }, element));

  function choose(chosen) {
    current = panels[chosen].title;
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === chosen));
      tab.tabIndex = at === chosen ? 0 : -1;
      shown[at].hidden = at !== chosen;
    });
    onChange(current);
  }

  function keys(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = (tabs.indexOf(event.target) + by + tabs.length) % tabs.length;
    choose(next);
    tabs[next].focus();
    event.preventDefault();
  }

  choose(0);
  return {
    element: h("section", { class: "hn-side" }, bar, ...shown),
    current: () => current,
    setCount: (at, number) => {
      const { title, one } = panels[at];
      const name = number === 1 ? one : title.toLowerCase();
      tabs[at].textContent = number ? `${number.toLocaleString("en")} ${name}` : title;
    },
  };
}
