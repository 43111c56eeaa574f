import axe from 'axe-core';
import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { DatasetView } from '../src/datasetView';
import { EndpointView } from '../src/endpointView';
import { kinds, Thing } from '../src/kinds';
import { PanelView } from '../src/panelView';
import { Platform } from '../src/platform';
import { ServiceError } from '../src/serviceError';
import { quotaLeft } from '../src/quota';
import {
  dataset,
  endpoint,
  HOSTILE,
  me,
  run,
  StandInActions,
  StandInService,
  trans
} from './standins';

const answer = vi.hoisted(() => ({ accept: true, asked: [] as string[] }));
vi.mock('@jupyterlab/apputils', () => ({
  Dialog: {
    cancelButton: () => ({}),
    okButton: () => ({}),
    warnButton: () => ({})
  },
  showDialog: async ({ title }: { title: string }) => {
    answer.asked.push(title);
    return { button: { accept: answer.accept } };
  }
}));

let root: Root;
let page: HTMLElement;
let service: StandInService;
let platform: Platform;
let actions: StandInActions;

beforeEach(() => {
  // There is no layout here: each element is as tall as a panel's list.
  vi.spyOn(Element.prototype, 'clientHeight', 'get').mockReturnValue(400);
  vi.spyOn(Element.prototype, 'clientWidth', 'get').mockReturnValue(300);
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  Element.prototype.scrollTo = () => undefined;
  HTMLCanvasElement.prototype.getContext = () => null;
  page = document.body.appendChild(document.createElement('main'));
  root = createRoot(page);
  service = new StandInService();
  platform = new Platform(service.service);
  actions = new StandInActions();
  answer.accept = true;
  answer.asked = [];
});

afterEach(() => {
  act(() => root.unmount());
  page.remove();
  vi.restoreAllMocks();
});

function Whole(): JSX.Element {
  const [, again] = React.useReducer((n: number) => n + 1, 0);
  const [all] = React.useState(() => kinds(platform, trans));
  React.useEffect(() => {
    platform.changed.connect(again);
    all.forEach(({ listing }) => listing.changed.connect(again));
  }, []);
  return (
    <PanelView
      platform={platform}
      kinds={all}
      actions={actions}
      trans={trans}
    />
  );
}

async function open(): Promise<void> {
  act(() => root.render(<Whole />));
  await act(() => platform.show());
}

async function view(
  View: typeof DatasetView,
  kind: Thing['kind'],
  name: string
): Promise<void> {
  platform.me = me();
  await act(async () =>
    root.render(
      <View
        thing={{ kind, owner: 'eve', name }}
        platform={platform}
        actions={actions}
        trans={trans}
        isShown
      />
    )
  );
}

function button(name: string): HTMLButtonElement {
  const found = [...page.querySelectorAll('button')].find(
    one => (one.getAttribute('aria-label') ?? one.textContent ?? '') === name
  );
  expect(found, `a button ${name}`).toBeDefined();
  return found!;
}

const click = (name: string): Promise<void> =>
  act(async () => button(name).click());

const opener = (): HTMLButtonElement =>
  page.querySelector<HTMLButtonElement>('.jp-aiaas-row-open')!;

async function violations(): Promise<string[]> {
  const found = await axe.run(page, {
    // Colours are the theme's, and there is no layout here: that is looked at in a browser.
    rules: { 'color-contrast': { enabled: false } }
  });
  return found.violations.map(one => `${one.id}: ${one.nodes[0]?.html}`);
}

test('where there is nothing, it says what to type', async () => {
  await open();
  expect(page.textContent).toContain('%%aiaas train --name my-first');
  expect(page.textContent).toContain('%aiaas publish my-endpoint --run RUN');
  await click('Insert %%aiaas train --name my-first');
  expect(actions.inserted).toEqual(['%%aiaas train --name my-first']);
  expect(await violations()).toEqual([]);
});

test('without a platform it says what to do, and tries again', async () => {
  service.refusal = new ServiceError('AIAAS_URL is not set.', 'Set it.', 503);
  await open();
  const alert = page.querySelector('[role=alert]')!;
  expect(alert.textContent).toContain('AIAAS_URL is not set.Set it.');
  expect(page.querySelectorAll('section')).toHaveLength(0);
  service.refusal = null;
  await click('Try again');
  expect(page.querySelectorAll('section')).toHaveLength(4);
});

test('of ten thousand runs only those that can be seen are in the page', async () => {
  service.runs_ = Array.from({ length: 10_000 }, (_, i) => run(`run-${i}`));
  await open();
  await act(async () => {
    while (platform.runs.hasMore) {
      await platform.runs.loadMore();
    }
  });
  expect(platform.runs.items).toHaveLength(10_000);
  const rows = page.querySelectorAll('[aria-label=Runs] [role=listitem]');
  expect(rows.length).toBeGreaterThan(5);
  expect(rows.length).toBeLessThan(40);
  expect(await violations()).toEqual([]);
});

test('rows are gone through by arrows', async () => {
  service.runs_ = [run('run-a'), run('run-b')];
  await open();
  act(() => opener().focus());
  const press = (key: string): Promise<void> =>
    act(async () => {
      document.activeElement!.dispatchEvent(
        new KeyboardEvent('keydown', { key, bubbles: true })
      );
    });
  await press('ArrowDown');
  expect(document.activeElement?.textContent).toContain('run-b');
  await press('ArrowDown');
  await act(async () => (document.activeElement as HTMLElement).click());
  expect(actions.opened).toEqual([
    { kind: 'runs', owner: 'eve', name: 'run-b' }
  ]);
});

test('names and errors are text', async () => {
  service.me_ = me({ user: HOSTILE });
  service.runs_ = [run('run-a', { name: HOSTILE, state: 'failed' })];
  service.datasets_ = [dataset('flowers', { owner: `${HOSTILE}\u202e` })];
  await open();
  expect(page.querySelector('img')).toBeNull();
  expect(page.textContent).toContain(HOSTILE);
  expect(page.textContent).not.toContain('\u202e');
});

test('a dragged row is its code', async () => {
  service.datasets_ = [dataset('flowers', { owner: 'bob' })];
  await open();
  const sent: Record<string, string> = {};
  const event = new Event('dragstart', { bubbles: true });
  Object.assign(event, {
    dataTransfer: {
      setData: (kind: string, data: string) => void (sent[kind] = data)
    }
  });
  await act(async () => {
    page.querySelector('[role=listitem]')!.dispatchEvent(event);
  });
  expect(sent).toEqual({
    'text/plain': '%aiaas load bob/flowers --into flowers'
  });
});

test('a dataset is shown as text, and its rows by pages', async () => {
  service.datasets_ = [dataset('flowers', { description: HOSTILE })];
  service.preview_ = {
    columns: [{ name: HOSTILE, type: 'string', nullable: true }],
    rows: [[HOSTILE], [{ a: [1, null] }], [null]],
    total_rows: 120,
    offset: 0,
    truncated: true
  };
  await view(DatasetView, 'datasets', 'flowers');
  expect(page.querySelector('img')).toBeNull();
  expect(page.querySelector('.jp-aiaas-description')?.textContent).toBe(
    HOSTILE
  );
  expect(page.textContent).toContain('{"a":[1,null]}');
  expect(page.textContent).toContain('None yet: type %aiaas profile flowers.');
  expect(await violations()).toEqual([]);
  await click('After');
  expect(service.asked).toContain('preview 50');
  expect(button('Before').disabled).toBe(false);
});

test('an endpoint is changed only by who says so twice', async () => {
  service.endpoints_ = [endpoint('digits')];
  await view(EndpointView, 'endpoints', 'digits');
  answer.accept = false;
  await click('Retire');
  await click('Roll back');
  expect(answer.asked).toEqual(['Retire digits?', 'Roll digits back?']);
  expect(service.asked.filter(one => /retire|rollback/.test(one))).toEqual([]);
  answer.accept = true;
  await click('Roll back');
  expect(service.asked).toContain('rollback digits');
  expect(await violations()).toEqual([]);
});

test('how an endpoint does is drawn, by versions', async () => {
  const sample = (p95_ms: number | null) => ({
    at: new Date().toISOString(),
    requests_per_second: 2,
    p95_ms
  });
  const numbers = { percent: 50, requests: 3, errors: 1, healthy: true };
  const times = { p50_ms: 1, p95_ms: 2, p99_ms: 3 };
  service.endpoints_ = [endpoint('digits')];
  service.statistics_ = [
    { version: 2, ...numbers, ...times, samples: [sample(4), sample(null)] },
    { version: 1, ...numbers, ...times, samples: [sample(7), sample(8)] }
  ];
  await view(EndpointView, 'endpoints', 'digits');
  const drawn = [...page.querySelectorAll('svg')].map(one =>
    one.getAttribute('aria-label')
  );
  expect(drawn).toEqual([
    'p95 in ms by minutes: v2 4, v1 8',
    'requests per second by minutes: v2 2, v1 2'
  ]);
});

test('why inputs are not compared is said, and that it sleeps', async () => {
  service.endpoints_ = [endpoint('digits', { sleep: 'asleep' })];
  const reason = '12 of the 200 rows were seen.';
  service.drift_ = [
    { version: 1, percent: 100, rows: 12, reason, features: [] }
  ];
  await view(EndpointView, 'endpoints', 'digits');
  expect(page.textContent).toContain(reason);
  expect(page.textContent).toContain('No: asleep, until somebody calls');
});

test('the inputs that changed most come first', async () => {
  const features = ['much', 'some', 'none'].map((change, i) => ({
    name: `<b>x[${i}]</b>`,
    psi: 1 / (1 + i),
    change: change as 'much' | 'some' | 'none'
  }));
  service.endpoints_ = [endpoint('digits')];
  service.drift_ = [
    { version: 2, percent: 0, rows: 9, reason: 'a canary', features: [] },
    { version: 1, percent: 100, rows: 900, reason: '', features }
  ];
  await view(EndpointView, 'endpoints', 'digits');
  const rows = [...page.querySelectorAll('[aria-label=Inputs] tbody tr')];
  expect(rows.map(one => one.textContent)).toEqual([
    '<b>x[0]</b>much1',
    '<b>x[1]</b>some0.5',
    '<b>x[2]</b>as before0.3333'
  ]);
  expect(page.textContent).not.toContain('asleep');
  expect(await violations()).toEqual([]);
});

test('a refusal of a change is said', async () => {
  service.endpoints_ = [endpoint('digits')];
  await view(EndpointView, 'endpoints', 'digits');
  const { change } = service;
  service.change = async () => {
    throw new ServiceError('Version 1 is gone.', 'Publish it again.', 409);
  };
  await click('Roll back');
  service.change = change;
  expect(page.querySelector('[role=alert]')?.textContent).toContain(
    'Version 1 is gone.Publish it again.'
  );
});

test('nothing can be promoted but a canary, nor be rolled back to nowhere', async () => {
  service.endpoints_ = [endpoint('digits', { former: {} })];
  await view(EndpointView, 'endpoints', 'digits');
  expect(page.textContent).not.toContain('Promote');
  expect(button('Roll back').disabled).toBe(true);
});

test('the scarcest quota comes first', () => {
  const left = quotaLeft(
    me({
      quota: {
        runs: { used: 1, limit: 4 },
        workers: { used: 0, limit: null },
        gpus: { used: 0, limit: 0 }
      },
      allowances: [{ name: 'GPU-hours', used: 9.5, limit: 10, unit: '' }]
    }),
    trans
  );
  expect(left).toEqual(['0.5 of 10 GPU-hours left', '3 of 4 runs left']);
});
