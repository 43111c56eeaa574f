import { CodeCellModel } from '@jupyterlab/cells';
import type { INotebookTracker } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';
import { beforeEach, expect, test, vi } from 'vitest';

import { keepCellRuns, rememberedRun } from '../src/cellRuns';
import { MIME_TYPE } from '../src/runOutput';
import { Runs } from '../src/runs';
import { ServiceError } from '../src/serviceError';
import { FollowedRuns } from './following';
import { NotebookActions } from './notebookActions';
import { run } from './standins';

vi.mock('@jupyterlab/notebook', () => import('./notebookActions'));

const OUTPUT = {
  output_type: 'display_data' as const,
  data: { [MIME_TYPE]: { run: 'run-1', version: 1 } },
  metadata: {}
};
let service: FollowedRuns;

beforeEach(() => {
  service = new FollowedRuns(run('run-1'));
});

function cell(kept?: unknown): CodeCellModel {
  const made = new CodeCellModel();
  if (kept !== undefined) {
    made.setMetadata('aiaas', kept);
  }
  return made;
}

/** As JupyterLab opens it. */
async function open(...cells: CodeCellModel[]): Promise<{ dirty: boolean }> {
  const changed = new Signal<object, object>({});
  const model = {
    dirty: false,
    cells: Object.assign(cells, { changed })
  };
  cells.forEach(one =>
    one.contentChanged.connect(() => void (model.dirty = true))
  );
  const added = new Signal<object, object>({});
  keepCellRuns(
    { widgetAdded: added } as unknown as INotebookTracker,
    new Runs(service.service)
  );
  added.emit({
    model,
    isDisposed: false,
    context: { ready: Promise.resolve() }
  });
  await new Promise(resolve => setTimeout(resolve));
  return model;
}

test('the run that a cell shows is kept in it, beside what else is', async () => {
  const one = cell({ note: 'mine' });
  await open(one);
  one.outputs.add(OUTPUT);
  expect(one.getMetadata('aiaas')).toEqual({ note: 'mine', run: 'run-1' });
});

test('a cell that did something else since has no run any more', async () => {
  const [noted, alone] = [cell({ note: 'mine' }), cell()];
  await open(noted, alone);
  for (const one of [noted, alone]) {
    one.outputs.add(OUTPUT);
    one.outputs.clear();
    // What failed may have been the same code.
    NotebookActions.executed.emit({ cell: { model: one }, success: false });
    expect(rememberedRun(one)).toBe('run-1');
    NotebookActions.executed.emit({ cell: { model: one }, success: true });
  }
  expect(noted.getMetadata('aiaas')).toEqual({ note: 'mine' });
  expect(alone.getMetadata('aiaas')).toBeUndefined();
});

test('an output that is gone is there again, and nothing is changed by it', async () => {
  const one = cell({ run: 'run-1' });
  const notebook = await open(one);
  expect(one.outputs.get(0).toJSON().data).toMatchObject({
    [MIME_TYPE]: { run: 'run-1', version: 1 },
    'text/plain': 'Run run-1: %aiaas attach run-1'
  });
  expect(notebook.dirty).toBe(false);
});

test("into somebody else's notebook nothing is put", async () => {
  service.refusal = new ServiceError('No such run.', '', 404);
  const one = cell({ run: 'run-1' });
  await open(one);
  expect(service.asked).toEqual(['run run-1']);
  expect(one.outputs.length).toBe(0);
});

test('a cell that has outputs keeps them, and what is no run is not asked for', async () => {
  const shown = cell({ run: 'run-1' });
  shown.outputs.add({ ...OUTPUT, data: { 'text/plain': '1' } });
  const wrong = [{ run: '../me' }, { run: 7 }, 'run-1', null].map(cell);
  await open(shown, ...wrong);
  expect(service.asked).toEqual([]);
  expect(shown.outputs.length).toBe(1);
});
