/** Which run a cell started lies in the cell's metadata, and brings its output back. */

import { ICellModel, ICodeCellModel } from '@jupyterlab/cells';
import {
  INotebookTracker,
  NotebookActions,
  NotebookPanel
} from '@jupyterlab/notebook';

import { MIME_TYPE, runOf } from './runOutput';
import { IRuns, isRunId } from './runs';

const KEY = 'aiaas';

/** Keep the metadata of every notebook's cells, and show again what their runs show. */
export function keepCellRuns(notebooks: INotebookTracker, runs: IRuns): void {
  notebooks.widgetAdded.connect((_, panel) => {
    void panel.context.ready.then(() => keep(panel, runs));
  });
  NotebookActions.executed.connect((_, { cell, success }) => {
    // Another cell by now: what it once started is no longer its run.
    if (success && isCode(cell.model) && shownRun(cell.model) === null) {
      forget(cell.model);
    }
  });
}

function keep(panel: NotebookPanel, runs: IRuns): void {
  const cells = panel.model?.cells;
  if (!cells || panel.isDisposed) {
    return;
  }
  const listened = new WeakSet<ICellModel>();
  const listen = (cell: ICellModel): void => {
    if (isCode(cell) && !listened.has(cell)) {
      listened.add(cell);
      cell.outputs.changed.connect(() => remember(cell));
    }
  };
  for (const cell of cells) {
    void showAgain(panel, cell, runs);
    listen(cell);
  }
  cells.changed.connect((_, change) => change.newValues.forEach(listen));
}

function remember(cell: ICodeCellModel): void {
  const run = shownRun(cell);
  if (run !== null && run !== rememberedRun(cell)) {
    cell.setMetadata(KEY, { ...cell.getMetadata(KEY), run });
  }
}

function forget(cell: ICodeCellModel): void {
  if (rememberedRun(cell) === null) {
    return;
  }
  const { run: _, ...rest } = cell.getMetadata(KEY);
  if (Object.keys(rest).length) {
    cell.setMetadata(KEY, rest);
  } else {
    cell.deleteMetadata(KEY);
  }
}

/** Give a cell whose outputs are gone the output of its run, if that is still there and mine. */
async function showAgain(
  panel: NotebookPanel,
  cell: ICellModel,
  runs: IRuns
): Promise<void> {
  const run = rememberedRun(cell);
  if (run === null || !isCode(cell) || cell.outputs.length > 0) {
    return;
  }
  try {
    await runs.service.run(run);
  } catch {
    return; // somebody else's notebook, or nobody to ask: nothing is put into it
  }
  const model = panel.model;
  if (!model || cell.isDisposed || cell.outputs.length > 0) {
    return;
  }
  const wasDirty = model.dirty;
  cell.outputs.add({
    output_type: 'display_data',
    data: {
      [MIME_TYPE]: { run, version: 1 },
      'text/plain': `Run ${run}: %aiaas attach ${run}`
    },
    metadata: {}
  });
  // To look at a notebook is not to change it.
  model.dirty = wasDirty;
}

function shownRun(cell: ICodeCellModel): string | null {
  for (let i = 0; i < cell.outputs.length; i++) {
    const run = runOf(cell.outputs.get(i).data);
    if (run !== null) {
      return run;
    }
  }
  return null;
}

/** The run that a cell started last. */
export function rememberedRun(cell: ICellModel): string | null {
  const kept = cell.getMetadata(KEY) as { run?: unknown } | undefined;
  return isRunId(kept?.run) ? kept.run : null;
}

export function isCode(cell: ICellModel): cell is ICodeCellModel {
  return cell.type === 'code';
}
