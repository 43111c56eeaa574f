import { PageConfig } from '@jupyterlab/coreutils';
import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { Platform } from '../src/platform';
import type { Chosen, Settings } from '../src/settings';
import { StatusItem } from '../src/status';
import type { Me } from '../src/wire';
import { chosenSettings } from './chosen';
import { HOSTILE, me, StandInService, trans } from './standins';

const PROFILE = 'aiaasProfile';
let item: StatusItem;
let settings: Settings;
let choose: (chosen: Partial<Chosen>) => void;
let opened: number;

beforeEach(async () => {
  ({ settings, choose } = await chosenSettings());
  opened = 0;
});

afterEach(() => {
  PageConfig.setOption(PROFILE, '');
  item.dispose();
});

async function show(who: Me): Promise<Platform> {
  const service = new StandInService();
  service.me_ = who;
  const platform = new Platform(service.service);
  item = new StatusItem(platform, settings, () => (opened += 1), trans);
  Widget.attach(item, document.body);
  await platform.refresh();
  await vi.waitFor(() => expect(button()).not.toBeNull());
  return platform;
}

const button = (): HTMLButtonElement | null =>
  item.node.querySelector('button');

test('runs, GPUs, the profile and the scarcest quota are said', async () => {
  PageConfig.setOption(PROFILE, `${HOSTILE}\u202e`);
  await show(
    me({
      live_runs: 2,
      quota: {
        runs: { used: 2, limit: 4 },
        workers: { used: 2, limit: null },
        gpus: { used: 3, limit: 4 }
      },
      allowances: [{ name: 'CPU-hours', used: 1, limit: 10, unit: '' }]
    })
  );
  expect(button()!.textContent).toBe(
    `AIaaS: 2 runs · 3 GPUs · ${HOSTILE} · 1 of 4 gpus left`
  );
  expect(item.node.querySelector('img')).toBeNull();
  // All the rest where one points at it.
  expect(button()!.title.split('\n')).toEqual([
    '2 runs',
    '3 GPUs',
    `Profile ${HOSTILE}`,
    '1 of 4 gpus left',
    '2 of 4 runs left',
    '9 of 10 CPU-hours left',
    'Open the AIaaS panel'
  ]);
  button()!.click();
  expect(opened).toBe(1);
});

test('where nothing is limited or used, nothing is said of it', async () => {
  const platform = await show(me());
  expect(button()!.textContent).toBe('AIaaS: 0 runs');
  platform.me = me({ live_runs: 1 });
  item.update();
  await vi.waitFor(() => expect(button()!.textContent).toBe('AIaaS: 1 run'));
});

test('who does not want it does not have it', async () => {
  await show(me());
  choose({ statusItem: false });
  await vi.waitFor(() => expect(button()).toBeNull());
  choose({ statusItem: true });
  await vi.waitFor(() => expect(button()).not.toBeNull());
});
