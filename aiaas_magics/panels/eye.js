// Tells the kernel whether the panel is looked at, and its reader when there is no kernel any more.

const GONE =
  "This panel is not connected: the kernel was restarted, or the notebook was opened again. " +
  "Run the cell again.";
const SIGN_MS = 20_000;

/** ipywidgets writes a slider's name beside it, and its handle has none for who cannot see that. */
function nameSliders(panel) {
  for (const handle of panel?.querySelectorAll("[role=slider]:not([aria-label])") ?? []) {
    const label = handle.closest(".widget-slider")?.querySelector("label")?.textContent;
    if (label) {
      handle.setAttribute("aria-label", label);
    }
  }
}

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

  // Jupyter marks what has lost its kernel, and has nobody to tell then.
  const isGone = () => el.closest(".jupyter-widgets-disconnected") !== null;
  let inView = false;
  let told = null;
  const tell = () => {
    const seen = inView && document.visibilityState === "visible";
    if (!isGone() && (seen || seen !== told)) {
      told = seen;
      model.send({ seen });
    }
  };
  const observer = new IntersectionObserver(entries => {
    inView = entries[entries.length - 1].isIntersecting;
    tell();
  });
  // All of the panel, of which this is the first line; it is put on the page after it is made.
  let waiting;
  const named = new MutationObserver(() => nameSliders(el.closest(".aiaas-panel")));
  const watch = () => {
    if (el.isConnected) {
      const panel = el.closest(".aiaas-panel") ?? el;
      observer.observe(panel);
      named.observe(panel, { childList: true, subtree: true });
      nameSliders(panel);
      connected();
    } else {
      waiting = setTimeout(watch, 250);
    }
  };
  const timer = setInterval(() => { if (inView) tell(); }, SIGN_MS);
  document.addEventListener("visibilitychange", tell);

  const connected = () => {
    // After the page's own handlers, one of which makes the mark.
    setTimeout(() => { gone.hidden = !isGone(); }, 0);
  };
  model.on("comm_live_update", connected);
  watch();
  return () => {
    inView = false;
    tell();
    clearTimeout(waiting);
    observer.disconnect();
    named.disconnect();
    clearInterval(timer);
    document.removeEventListener("visibilitychange", tell);
    model.off("comm_live_update", connected);
  };
}

export default { render };
