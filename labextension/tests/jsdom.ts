/** What JupyterLab's modules take for granted, and jsdom does not have. */

class Drag extends MouseEvent {}

// The real clock's, also where a test stops it.
const later = globalThis.setTimeout;

Object.assign(globalThis, {
  DragEvent: Drag,
  matchMedia: () => ({
    matches: false,
    addListener: () => undefined,
    removeListener: () => undefined
  }),
  requestIdleCallback: (done: () => void) => later(done)
});
