// An extension of JupyterLab without a build step: it lets an output move into a tab beside the notebook.
// JupyterLab loads this file, passes the modules that extensions share to `init`, and asks for "./extension".
(() => {
  let shared;
  const tabs = new Map(); // title -> tab

  async function load(name) {
    const [version] = Object.values(shared[name]);
    return (await version.get())();
  }

  // Show an element in the tab with a title, which is made if it is missing. `closed` is called when the tab
  // is closed, or shows another element.
  function show(app, Widget, title, element, closed) {
    let tab = tabs.get(title);
    if (!tab) {
      tab = new Widget();
      tab.id = `happen-side-tab-${tabs.size}-${Date.now()}`;
      tab.title.label = title;
      tab.title.caption = `Dashboard of the space ${title}`;
      tab.title.closable = true;
      tab.node.tabIndex = -1;
      Object.assign(tab.node.style, { overflow: "auto", background: "var(--jp-layout-color0)" });
      tab.onCloseRequest = () => tab.dispose(); // it would only be detached
      tab.disposed.connect(() => {
        tabs.delete(title);
        tab.closed?.();
      });
      tabs.set(title, tab);
      app.shell.add(tab, "main", { mode: "split-right", activate: false });
    }
    tab.closed?.();
    tab.closed = closed;
    tab.isFree = false;
    tab.node.replaceChildren(element);
    return {
      close: () => tab.dispose(),
      release(text) { // the element goes away; the tab stays for the next one with its title
        tab.node.replaceChildren(text);
        tab.closed = null;
        tab.isFree = true;
      },
    };
  }

  const plugin = {
    id: "happen-nb:side-tab",
    autoStart: true,
    async activate(app) {
      if (!("mode" in app.shell)) return; // Jupyter Notebook shows one document only
      const { Widget } = await load("@lumino/widgets");
      globalThis.happenSideTab = {
        isFree: (title) => Boolean(tabs.get(title)?.isFree),
        show: (title, element, closed) => show(app, Widget, title, element, closed),
      };
    },
  };

  globalThis._JUPYTERLAB ??= {};
  globalThis._JUPYTERLAB["happen-nb"] = {
    init: (scope) => { shared = scope; },
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
