// Moves the dashboard from its output into a tab beside the notebook, and back. JupyterLab's extension of the
// same package offers that; without it, there is no button.

function makeSideTab(root, title) {
  const host = globalThis.happenSideTab;
  const move = h("button", { title: "Show it beside the notebook", onclick: toggle, hidden: !host }, "side tab");
  const note = h("div", { class: "happen hn-away" }, "The dashboard is in a tab beside the notebook. ",
    h("button", { onclick: () => tab.close() }, "bring it back"));
  let tab = null; // while it is there

  function toggle() {
    if (tab) tab.close();
    else open();
  }

  function open() {
    root.before(note);
    tab = host.show(title(), root, comeBack);
    move.textContent = "back to the cell";
  }

  function comeBack() {
    tab = null;
    note.replaceWith(root);
    move.textContent = "side tab";
  }

  return {
    button: move,
    join() { // the cell ran again: its tab is still there
      if (!tab && host?.isFree(title())) open();
    },
    leave() {
      const gone = h("p", { class: "happen hn-away" }, "This dashboard has ended. Run its cell again to continue here.");
      tab?.release(gone);
      note.remove();
    },
  };
}
