/** The panel, the views and what leads to them, as JupyterLab knows it. */

import { ILayoutRestorer, JupyterFrontEnd } from '@jupyterlab/application';
import {
  ICommandPalette,
  Notification,
  WidgetTracker
} from '@jupyterlab/apputils';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { IStatusBar } from '@jupyterlab/statusbar';
import { TranslationBundle } from '@jupyterlab/translation';
import { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { Debouncer, Poll } from '@lumino/polling';

import { Actions } from './actions';
import { keepBadges } from './cellBadges';
import * as code from './code';
import { aiaasIcon } from './icon';
import { copy, insert } from './insert';
import { KindId, Thing } from './kinds';
import { plain } from './logTail';
import { Platform } from './platform';
import { IRuns } from './runs';
import { Settings } from './settings';
import { SidePanel } from './sidePanel';
import { StatusItem } from './status';
import { ThingView, viewId } from './view';
import { Run } from './wire';

const OPEN_PANEL = 'aiaas:open-panel';
const REFRESH = 'aiaas:refresh';
const OPEN = 'aiaas:open';
const LONGEST_PAUSE_MS = 120_000;
/** Of a notebook that runs whole, only the last cell counts. */
const AFTER_CELLS_MS = 1000;
const KINDS: ReadonlySet<unknown> = new Set<KindId>([
  'datasets',
  'runs',
  'models',
  'endpoints'
]);

export interface Parts {
  app: JupyterFrontEnd;
  platform: Platform;
  runs: IRuns;
  rendermime: IRenderMimeRegistry;
  languages: IEditorLanguageRegistry | null;
  trans: TranslationBundle;
  notebooks: INotebookTracker | null;
  palette: ICommandPalette | null;
  launcher: ILauncher | null;
  restorer: ILayoutRestorer | null;
  settings: Settings;
  statusBar: IStatusBar | null;
  /** Where views are shown: Notebook 7 has its one document in the middle. */
  viewArea: 'main' | 'right';
}

export function addPanel(parts: Parts): void {
  const { app, platform, trans } = parts;
  const { commands, shell } = app;
  const actions: Actions = {
    open: thing => void commands.execute(OPEN, { ...thing }),
    insert: code => void insert(code, parts.notebooks, shell, trans),
    copy: code => copy(code, trans)
  };
  const panel = new SidePanel(platform, actions, trans);
  shell.add(panel, 'left', { rank: 550, type: 'AIaaS Hub' });
  parts.restorer?.add(panel, panel.id);

  const category = trans.__('AIaaS');
  commands.addCommand(OPEN_PANEL, {
    label: args =>
      args.isLauncher ? trans.__('AIaaS Hub') : trans.__('AIaaS: Open panel'),
    caption: trans.__('Datasets, runs, models and endpoints'),
    icon: args => (args.isPalette ? undefined : aiaasIcon),
    execute: () => shell.activateById(panel.id)
  });
  commands.addCommand(REFRESH, {
    label: trans.__('AIaaS: Refresh'),
    caption: trans.__('Read datasets, runs, models and endpoints again'),
    execute: () => platform.refresh()
  });
  parts.palette?.addItem({
    command: OPEN_PANEL,
    category,
    args: { isPalette: true }
  });
  parts.palette?.addItem({ command: REFRESH, category });
  addExamples(parts, actions);
  parts.launcher?.add({
    command: OPEN_PANEL,
    category: trans.__('Other'),
    args: { isLauncher: true }
  });

  addViews(parts, actions);
  const { settings, notebooks } = parts;
  parts.statusBar?.registerStatusItem('@aiaas-hub/labextension:status', {
    item: new StatusItem(
      platform,
      settings,
      () => void commands.execute(OPEN_PANEL),
      trans
    ),
    align: 'right',
    rank: 50
  });
  platform.runEnded.connect((_, run) => {
    if (settings.chosen.notifications) {
      notify(run, actions, trans);
    }
  });
  if (notebooks) {
    keepBadges({ ...parts, notebooks, actions });
  }
  void app.restored.then(() => keepUpToDate(platform, settings));
}

/** What somebody new looks for: by the words for it, not by ours. */
function addExamples(parts: Parts, actions: Actions): void {
  const { app, platform, palette, trans } = parts;
  const category = trans.__('AIaaS');
  const add = (
    command: string,
    label: string,
    caption: string,
    made: () => string
  ): void => {
    app.commands.addCommand(command, {
      label,
      caption,
      execute: () => actions.insert(made())
    });
    palette?.addItem({ command, category });
  };
  add(
    'aiaas:train',
    trans.__('AIaaS: Train a model (insert an example)'),
    trans.__('A cell that trains, and hands over a model'),
    () => code.EXAMPLE
  );
  add(
    'aiaas:deploy',
    trans.__('AIaaS: Deploy a model (insert the line)'),
    trans.__('Of your newest model, or of the one that the example makes'),
    () => code.deploy(platform.models.all[0], platform.me?.user ?? null)
  );
  add(
    'aiaas:put-data',
    trans.__('AIaaS: Store a DataFrame (insert the line)'),
    trans.__('As a dataset that runs can read'),
    () => code.PUT
  );
}

function addViews(parts: Parts, actions: Actions): void {
  const { commands, shell } = parts.app;
  const { trans } = parts;
  const tracker = new WidgetTracker<ThingView>({ namespace: 'aiaas' });
  commands.addCommand(OPEN, {
    label: trans.__('AIaaS: Open'),
    execute: args => {
      const thing = asThing(args);
      if (thing === null) {
        return;
      }
      let view = tracker.find(one => one.id === viewId(thing));
      if (!view) {
        view = new ThingView(thing, { ...parts, actions });
        void tracker.add(view);
      }
      if (!view.isAttached) {
        shell.add(view, parts.viewArea);
      }
      shell.activateById(view.id);
    }
  });
  void parts.restorer?.restore(tracker, {
    command: OPEN,
    args: view => ({ ...view.thing }),
    name: view => view.id
  });
}

/** A saved layout may hold anything. */
function asThing(args: ReadonlyPartialJSONObject): Thing | null {
  const { kind, owner, name } = args;
  return KINDS.has(kind) &&
    typeof owner === 'string' &&
    typeof name === 'string'
    ? { kind: kind as KindId, owner, name }
    : null;
}

function notify(run: Run, actions: Actions, trans: TranslationBundle): void {
  const name = plain(run.name);
  const said = {
    succeeded: (): string => trans.__('Run %1 succeeded.', name),
    cancelled: (): string => trans.__('Run %1 was cancelled.', name),
    lost: (): string => trans.__('Run %1 is lost.', name)
  }[run.state as 'succeeded' | 'cancelled' | 'lost'];
  const message = said ? said() : trans.__('Run %1 failed.', name);
  const why = run.error ? ` ${plain(run.error.message)}` : '';
  const type =
    run.state === 'succeeded'
      ? 'success'
      : run.state === 'cancelled'
        ? 'info'
        : 'error';
  Notification.emit(`${message}${why}`, type, {
    autoClose: 8000,
    actions: [
      {
        label: trans.__('Open'),
        caption: trans.__('Open run %1', run.id),
        callback: () =>
          actions.open({ kind: 'runs', owner: run.owner, name: run.id })
      }
    ]
  });
}

/** Nothing while nobody looks; at once when somebody looks again. */
function keepUpToDate(platform: Platform, settings: Settings): void {
  const poll = new Poll({
    name: '@aiaas-hub/labextension:platform',
    factory: () => platform.tick(),
    frequency: {
      interval: settings.chosen.refreshSeconds * 1000,
      backoff: true,
      max: LONGEST_PAUSE_MS
    },
    standby: 'when-hidden'
  });
  settings.changed.connect((_, { refreshSeconds }) => {
    const interval = refreshSeconds * 1000;
    const max = Math.max(interval, LONGEST_PAUSE_MS);
    poll.frequency = { ...poll.frequency, interval, max };
  });
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) {
      void poll.refresh();
    }
  });
  // What a cell put, made or published is seen now, and not when its list is due.
  const again = new Debouncer(async () => {
    if (platform.isShown) {
      await platform.refresh();
    }
  }, AFTER_CELLS_MS);
  NotebookActions.executed.connect((_, { cell }) => {
    if (cell.model.sharedModel.source.includes('aiaas')) {
      void again.invoke();
    }
  });
}
