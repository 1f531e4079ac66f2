// Starts the demo on Binder by its API, and reports the progress, so that the recording stays on the page.
// Without this script, the link leads to Binder's own page.
(() => {
  const link = document.getElementById("start-demo"), status = document.getElementById("demo-status");
  const { origin, pathname, searchParams } = new URL(link.href);
  const PHASES = {
    waiting: "waiting for a place",
    fetching: "fetching the repository",
    building: "building the image, which is done once after each change and takes minutes",
    pushing: "storing the image",
    built: "the image is ready",
    launching: "starting the server",
  };

  function start() {
    const started = Date.now(), source = new EventSource(origin + pathname.replace("/v2/", "/build/"));
    let phase = "waiting";
    const show = () => { status.textContent = `Binder: ${PHASES[phase] ?? phase} · ${Math.round((Date.now() - started) / 1000)} s`; };
    const clock = setInterval(show, 1000);
    const end = (text) => {
      source.close(); // otherwise the browser would connect again, and start another server
      clearInterval(clock);
      status.textContent = text;
    };
    show();
    link.hidden = true;
    source.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      phase = message.phase ?? phase;
      if (phase === "ready") {
        end("The server is running.");
        const place = new URL(searchParams.get("urlpath"), message.url.replace(/\/?$/, "/"));
        place.searchParams.set("token", message.token);
        link.href = place;
        link.target = "_blank";
        link.textContent = "Open the live demo";
        link.hidden = false;
        link.focus();
      } else if (phase === "failed") fail("Binder could not start the demo.");
      else show();
    };
    source.onerror = () => fail("Binder does not answer here.");
    const fail = (text) => {
      end(text);
      link.textContent = "Try it on Binder's page";
      link.hidden = false;
    };
  }

  link.addEventListener("click", (click) => {
    if (link.dataset.started) return;
    link.dataset.started = "true";
    click.preventDefault();
    start();
  });
  if (location.hash === "#start") link.click();
})();
