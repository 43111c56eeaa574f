/** Beside a cell that started a run: the run's state, also where its output is hidden or gone. */

import { Cell } from '@jupyterlab/cells';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { Throttler } from '@lumino/polling';

import { Actions } from './actions';
import { isCode, rememberedRun } from './cellRuns';
import { plain } from './logTail';
import { Platform } from './platform';
import { IRuns } from './runs';
import { Settings } from './settings';
import { Run } from './wire';

const BADGE = 'jp-aiaas-badge';
const DRAW_MS = 100;

export interface BadgeParts {
  notebooks: INotebookTracker;
  runs: IRuns;
  platform: Platform;
  settings: Settings;
  actions: Actions;
  trans: TranslationBundle;
}

export function keepBadges(parts: BadgeParts): void {
  const badges = new Badges(parts);
  parts.notebooks.widgetAdded.connect((_, panel) => badges.follow(panel));
  parts.notebooks.forEach(panel => badges.follow(panel));
}

class Badges {
  constructor(private readonly _parts: BadgeParts) {
    const { runs, platform, settings } = _parts;
    // What an output, or the side panel's list, hears of a run is news for its badge.
    runs.heard.connect((_, run) => this._hear(run));
    platform.runs.changed.connect(({ all }) => all.forEach(this._hear));
    settings.changed.connect(() => void this._drawing.invoke());
  }

  follow(panel: NotebookPanel): void {
    this._panels.add(panel);
    panel.disposed.connect(() => this._panels.delete(panel));
    const draw = (): void => void this._drawing.invoke();
    void panel.context.ready.then(() => {
      panel.model?.cells.changed.connect(draw);
      // A cell that starts a run says so in its metadata.
      panel.model?.contentChanged.connect(draw);
      draw();
    });
  }

  /** Of a long list only few were started here. */
  private readonly _hear = (run: Run): void => {
    if (!this._asked.has(run.id)) {
      return;
    }
    const known = this._known.get(run.id);
    this._known.set(run.id, run);
    if (known?.state !== run.state) {
      void this._drawing.invoke();
    }
  };

  private _draw(): void {
    const isWanted = this._parts.settings.chosen.badges;
    for (const panel of this._panels) {
      for (const cell of panel.content.widgets) {
        const run =
          isWanted && isCode(cell.model) ? rememberedRun(cell.model) : null;
        this._show(cell, run);
      }
    }
  }

  private _show(cell: Cell, id: string | null): void {
    const badge = cell.node.querySelector<HTMLElement>(`:scope > .${BADGE}`);
    const run = id === null ? undefined : this._known.get(id);
    if (!run) {
      badge?.remove();
      if (id !== null) {
        void this._ask(id);
      }
      return;
    }
    const { trans, actions } = this._parts;
    const shown = badge ?? document.createElement('button');
    shown.className = `${BADGE} jp-aiaas-state`;
    shown.dataset.state = run.state;
    shown.textContent = run.state;
    const label = trans.__('Open run %1 (%2)', plain(run.name), run.state);
    shown.setAttribute('aria-label', label);
    shown.title = label;
    shown.onclick = () =>
      actions.open({ kind: 'runs', owner: run.owner, name: run.id });
    if (!badge) {
      cell.node.append(shown);
    }
  }

  /** Once for each: of somebody else's run, in somebody else's notebook, nothing is said. */
  private async _ask(id: string): Promise<void> {
    if (this._asked.has(id)) {
      return;
    }
    this._asked.add(id);
    try {
      this._hear(await this._parts.runs.service.run(id));
    } catch {
      // The badge comes when its output, or the list, hears of it.
    }
  }

  private readonly _drawing = new Throttler(() => this._draw(), DRAW_MS);
  private readonly _panels = new Set<NotebookPanel>();
  private readonly _known = new Map<string, Run>();
  private readonly _asked = new Set<string>();
}
