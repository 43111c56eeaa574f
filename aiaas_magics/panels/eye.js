// Tells the kernel whether the panel is looked at, and its reader when there is no kernel any more.

const GONE =
  "This panel is not connected: the kernel was restarted, or the notebook was opened again. " +
  "Run the cell again.";
const SIGN_MS = 20_000;

function render({ model, el }) {
  const gone = document.createElement("div");
  gone.textContent = GONE;
  gone.setAttribute("role", "alert");
  gone.style.cssText =
    "border-left:3px solid var(--jp-warn-color1,#c77700);padding:4px 8px;" +
    "color:var(--jp-ui-font-color1,inherit)";
  gone.hidden = true;
  // It has to be somewhere to be seen or not.
  el.style.minHeight = "1px";
  el.append(gone);

  let inView = false;
  let told = null;
  const tell = () => {
    const seen = inView && document.visibilityState === "visible";
    if (seen || seen !== told) {
      told = seen;
      model.send({ seen });
    }
  };
  const observer = new IntersectionObserver(entries => {
    inView = entries[entries.length - 1].isIntersecting;
    tell();
  });
  // All of the panel, of which this is the first line; it is put on the page after it is made.
  let frame;
  const watch = () => {
    if (el.isConnected) {
      observer.observe(el.closest(".aiaas-panel") ?? el);
      connected();
    } else {
      frame = requestAnimationFrame(watch);
    }
  };
  const timer = setInterval(() => { if (inView) tell(); }, SIGN_MS);
  document.addEventListener("visibilitychange", tell);

  // Jupyter marks what has lost its kernel.
  const connected = () => {
    gone.hidden = el.closest(".jupyter-widgets-disconnected") === null;
  };
  model.on("comm_live_update", connected);
  watch();
  return () => {
    inView = false;
    tell();
    cancelAnimationFrame(frame);
    observer.disconnect();
    clearInterval(timer);
    document.removeEventListener("visibilitychange", tell);
    model.off("comm_live_update", connected);
  };
}

export default { render };
