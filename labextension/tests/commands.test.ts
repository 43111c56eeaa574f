import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
// It comes with `@jupyterlab/application`.
import { CommandRegistry } from '@lumino/commands';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { addPanel, Parts } from '../src/commands';
import { Platform } from '../src/platform';
import { IRuns, Runs } from '../src/runs';
import type { Chosen } from '../src/settings';
import type { Run, RunState } from '../src/wire';
import { chosenSettings } from './chosen';
import { FollowedRuns } from './following';
import { HOSTILE, me, run, StandInService, trans } from './standins';

vi.mock('@jupyterlab/notebook', () => import('./notebookActions'));

let heard: Signal<IRuns, Run>;
let service: StandInService;
let platform: Platform;
let commands: CommandRegistry;
let shown: Widget[];
let front: string[];
let offered: { command: string; args?: object }[];
let choose: (chosen: Partial<Chosen>) => void;

beforeEach(async () => {
  vi.stubGlobal(
    'IntersectionObserver',
    class {
      observe = (): void => undefined;
      disconnect = (): void => undefined;
    }
  );
  service = new StandInService();
  heard = new Signal<IRuns, Run>({} as IRuns);
  platform = new Platform(service.service, heard);
  platform.me = me();
  commands = new CommandRegistry();
  [shown, front, offered] = [[], [], []];
  const kept = await chosenSettings();
  choose = kept.choose;
  const shell = {
    add: (widget: Widget) => void shown.push(widget),
    activateById: (id: string) => void front.push(id)
  };
  const offer = {
    addItem: (item: (typeof offered)[0]) => void offered.push(item),
    add: (item: (typeof offered)[0]) => void offered.push(item)
  };
  addPanel({
    app: {
      commands,
      shell,
      // Nothing is asked of itself here: that is `platform.test.ts`.
      restored: new Promise(() => undefined)
    } as unknown as JupyterFrontEnd,
    platform,
    runs: new Runs(new FollowedRuns().service),
    rendermime: null!,
    trans,
    notebooks: null,
    palette: offer,
    launcher: offer,
    restorer: null,
    settings: kept.settings,
    statusBar: null,
    viewArea: 'main'
  } as unknown as Parts);
});

afterEach(async () => {
  Notification.dismiss();
  shown.forEach(one => one.dispose());
  // What React has begun to draw ends before its page goes.
  await new Promise(resolve => setTimeout(resolve));
  vi.unstubAllGlobals();
});

const messages = (): [string, string][] =>
  Notification.manager.notifications.map(({ type, message }) => [
    type,
    message
  ]);

function end(state: RunState, more: Partial<Run> = {}): void {
  heard.emit(run('run-1', { state: 'running' }));
  heard.emit(run('run-1', { state, name: 'digits', ...more }));
}

test('the panel is opened and read again by commands that are offered', async () => {
  expect(shown.map(({ id }) => id)).toEqual(['aiaas-panel']);
  for (const { command, args } of offered) {
    expect(commands.label(command, args as never)).toContain('AIaaS');
    await commands.execute(command, args as never);
  }
  expect(new Set(front)).toEqual(new Set(['aiaas-panel']));
  expect(service.asked).toContain('runs 0');
});

test('a thing has one view, however often it is opened', async () => {
  const thing = { kind: 'models', owner: 'eve', name: HOSTILE };
  await commands.execute('aiaas:open', thing);
  await commands.execute('aiaas:open', thing);
  const [, view, ...more] = shown;
  expect(more.filter(one => one !== view)).toEqual([]);
  expect(front).toEqual([view!.id, view!.id]);
  expect(view!.title.label).toBe(HOSTILE);
  expect(view!.node.querySelector('img')).toBeNull();
});

test.each([
  {},
  { kind: 'secrets', owner: 'eve', name: 'x' },
  { kind: 'runs', owner: 7, name: 'x' },
  { kind: 'runs', owner: 'eve' }
])('of a saved layout %j nothing is opened', async args => {
  await commands.execute('aiaas:open', args);
  expect(shown).toHaveLength(1);
});

const error = { message: 'No space is left.', remedy: '', traceback: '' };
test.each([
  ['succeeded', {}, 'success', 'Run digits succeeded.'],
  ['cancelled', {}, 'info', 'Run digits was cancelled.'],
  ['lost', { error }, 'error', 'Run digits is lost. No space is left.'],
  ['failed', { error }, 'error', 'Run digits failed. No space is left.']
] as const)('that a run %s is said', (state, more, type, message) => {
  end(state, more);
  expect(messages()).toEqual([[type, message]]);
});

test('what is said of a run is text, and leads to it', async () => {
  end('failed', {
    name: `\x1b[31m${HOSTILE}\u202e`,
    error: { ...error, message: `\x1b[1m${HOSTILE}` }
  });
  expect(messages()).toEqual([['error', `Run ${HOSTILE} failed. ${HOSTILE}`]]);
  const [action] = Notification.manager.notifications[0]!.options.actions!;
  expect(action!.label).toBe('Open');
  action!.callback(new MouseEvent('click'));
  await vi.waitFor(() => expect(front).toEqual(['aiaas-runs-eve-run-1']));
});

test('who wants no notifications has none, until they want them', () => {
  choose({ notifications: false });
  end('failed');
  expect(messages()).toEqual([]);
  choose({ notifications: true });
  end('cancelled');
  expect(messages()).toHaveLength(1);
});
