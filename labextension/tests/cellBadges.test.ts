import type { INotebookTracker } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';
import { beforeEach, expect, test, vi } from 'vitest';

import { keepBadges } from '../src/cellBadges';
import { Platform } from '../src/platform';
import { Runs } from '../src/runs';
import { ServiceError } from '../src/serviceError';
import type { Chosen } from '../src/settings';
import { chosenSettings } from './chosen';
import { FollowedRuns } from './following';
import { HOSTILE, run, StandInActions, trans } from './standins';

vi.mock('@jupyterlab/notebook', () => import('./notebookActions'));
vi.mock('@jupyterlab/apputils', () => ({ ReactWidget: Object }));

let service: FollowedRuns;
let actions: StandInActions;
let runs: Runs;
let choose: (chosen: Partial<Chosen>) => void;

beforeEach(() => {
  service = new FollowedRuns(
    run('run-1', { state: 'running', name: `${HOSTILE}\u202e` })
  );
  actions = new StandInActions();
});

interface StandInCell {
  node: HTMLElement;
  model: { type: string; getMetadata: () => unknown };
}

function cell(kept: unknown, type = 'code'): StandInCell {
  const model = { type, getMetadata: () => kept };
  return { node: document.createElement('div'), model };
}

async function open(
  widgets: StandInCell[],
  chosen: Partial<Chosen> = {}
): Promise<() => void> {
  const changed = new Signal<object, void>({});
  const panel = {
    context: { ready: Promise.resolve() },
    content: { widgets },
    model: { cells: { changed }, contentChanged: changed },
    disposed: new Signal<object, void>({})
  };
  const notebooks = {
    widgetAdded: new Signal<object, void>({}),
    forEach: (each: (one: unknown) => void) => each(panel)
  } as unknown as INotebookTracker;
  const kept = await chosenSettings(chosen);
  choose = kept.choose;
  runs = new Runs(service.service);
  keepBadges({
    notebooks,
    runs,
    platform: new Platform(service.service, runs.heard),
    settings: kept.settings,
    actions,
    trans
  });
  return () => changed.emit();
}

const badge = ({ node }: StandInCell): HTMLElement | null =>
  node.querySelector('.jp-aiaas-badge');

/** Not before it was drawn, which is ten times in a second at most. */
const drawn = (): Promise<unknown> =>
  new Promise(resolve => setTimeout(resolve, 250));

test('beside the cell that began a run its state is said, as text', async () => {
  const one = cell({ run: 'run-1' });
  await open([one, cell(undefined)]);
  await vi.waitFor(() => expect(badge(one)?.textContent).toBe('running'));
  const label = `Open run ${HOSTILE} (running)`;
  expect(badge(one)!.getAttribute('aria-label')).toBe(label);
  expect(badge(one)!.title).toBe(label);
  badge(one)!.click();
  expect(actions.opened).toEqual([
    { kind: 'runs', owner: 'eve', name: 'run-1' }
  ]);
});

test('what is heard of the run is said at once, by the same badge', async () => {
  const one = cell({ run: 'run-1' });
  await open([one]);
  await vi.waitFor(() => expect(badge(one)).not.toBeNull());
  const first = badge(one);
  const model = runs.get('run-1');
  await model.cancel();
  await vi.waitFor(() => expect(badge(one)?.textContent).toBe('cancelled'));
  expect(badge(one)).toBe(first);
  expect(first!.dataset.state).toBe('cancelled');
});

test('who wants no badges has none, and has them again', async () => {
  const one = cell({ run: 'run-1' });
  await open([one], { badges: false });
  await drawn();
  expect(badge(one)).toBeNull();
  expect(service.asked).toEqual([]);
  choose({ badges: true });
  await vi.waitFor(() => expect(badge(one)).not.toBeNull());
  choose({ badges: false });
  await vi.waitFor(() => expect(badge(one)).toBeNull());
});

test("of somebody else's run nothing is said, and it is asked for once", async () => {
  service.refusal = new ServiceError('No such run.', '', 404);
  const one = cell({ run: 'run-1' });
  const draw = await open([one]);
  for (let i = 0; i < 3; i++) {
    await drawn();
    draw();
  }
  expect(badge(one)).toBeNull();
  expect(service.asked).toEqual(['run run-1']);
});

test('a cell that is no code, or names no run, has none', async () => {
  const cells = [
    cell({ run: 'run-1' }, 'markdown'),
    cell({ run: '../me' }),
    cell('run-1')
  ];
  await open(cells);
  await drawn();
  expect(cells.map(badge)).toEqual([null, null, null]);
  expect(service.asked).toEqual([]);
});

test('a cell that began another run loses the badge of the first', async () => {
  const kept: { run?: string } = { run: 'run-1' };
  const one = cell(kept);
  const draw = await open([one]);
  await vi.waitFor(() => expect(badge(one)).not.toBeNull());
  delete kept.run;
  draw();
  await vi.waitFor(() => expect(badge(one)).toBeNull());
});
