import * as React from 'react';
import { beforeEach, expect, test } from 'vitest';

import { DatasetView } from '../src/datasetView';
import { Platform } from '../src/platform';
import type { ColumnProfile, ProfileStatus } from '../src/wire';
import { TestPage } from './page';
import {
  dataset,
  HOSTILE,
  me,
  StandInActions,
  StandInService,
  trans
} from './standins';

const page = new TestPage();
let service: StandInService;

beforeEach(() => {
  service = new StandInService();
  service.datasets_ = [dataset('flowers')];
});

async function show(status: Partial<ProfileStatus>): Promise<void> {
  service.profile_ = { ...service.profile_, ...status };
  const platform = new Platform(service.service);
  platform.me = me();
  await page.show(
    <DatasetView
      thing={{ kind: 'datasets', owner: 'eve', name: 'flowers' }}
      platform={platform}
      actions={new StandInActions()}
      trans={trans}
      isShown
    />
  );
}

function column(
  name: string,
  more: Partial<ColumnProfile> = {}
): ColumnProfile {
  return {
    name,
    nulls: 0,
    distinct: null,
    least: null,
    most: null,
    mean: null,
    histogram: null,
    top: [],
    note: '',
    ...more
  };
}

const rows = (): HTMLTableRowElement[] => [
  ...page.node.querySelectorAll<HTMLTableRowElement>(
    '[aria-label=Statistics] tbody tr'
  )
];

test('numbers are bars, the highest as high as there is room', async () => {
  const histogram = { edges: [0, 1, 2, 3], counts: [2, 8, 0] };
  const numbers = column('petal', {
    nulls: 3,
    distinct: 7,
    least: 0.1,
    most: 2.9,
    mean: 1.23456,
    histogram
  });
  await show({
    state: 'done',
    profile: { rows: 13, looked_at: 13, duplicates: 0, columns: [numbers] }
  });
  expect(rows()[0]!.textContent).toBe('petal370.11.2352.9');
  const drawn = rows()[0]!.querySelector('svg')!;
  expect(drawn.getAttribute('aria-label')).toBe('Spread: 2, 8, 0');
  const bars = [...drawn.querySelectorAll('rect')].map(bar =>
    ['x', 'y', 'height'].map(side => Number(bar.getAttribute(side)))
  );
  expect(bars).toEqual([
    [0.05, 0.75, 0.25],
    [1.05, 0, 1],
    [2.05, 1, 0]
  ]);
  expect(page.text).not.toContain('chosen at random');
  expect(await page.violations()).toEqual([]);
});

test('texts are their most frequent ones, whatever they say', async () => {
  const top = [HOSTILE, 'b\u202e', null, 'd'].map((value, i) => ({
    value,
    count: 4000 - i
  }));
  await show({
    state: 'done',
    profile: {
      rows: 1_000_000,
      looked_at: 10_000,
      duplicates: 0,
      columns: [
        column(HOSTILE, { top, least: HOSTILE, most: { a: 1 } }),
        column('empty', { histogram: { edges: [], counts: [] } }),
        column('pixels', { note: `Lists are not counted.${HOSTILE}` }),
        column('same', { histogram: { edges: [1, 1], counts: [0] } })
      ]
    }
  });
  const spread = rows().map(one => one.cells[6]!.textContent);
  expect(spread).toEqual([
    `${HOSTILE} (4,000), b (3,999),  (3,998)`,
    '',
    `Lists are not counted.${HOSTILE}`,
    ''
  ]);
  expect(rows()[0]!.cells[5]!.textContent).toBe('{"a":1}');
  // Of counts that are all nothing no bar is as long as NaN.
  expect(rows()[3]!.querySelector('rect')?.getAttribute('height')).toBe('0');
  expect(page.text).toContain('Of 10,000 rows that were chosen at random.');
  expect(page.node.querySelector('img')).toBeNull();
});

test.each([
  [{ state: 'queued' }, 'They are computed soon.'],
  [
    { state: 'running', done: 2, total: 9 },
    'They are being computed: 2 of 9 columns.'
  ],
  [
    { state: 'failed', error: `\x1b[31m${HOSTILE}` },
    `${HOSTILE} Try %aiaas profile flowers.`
  ],
  [{ state: 'none' }, 'None yet: type %aiaas profile flowers.']
] as [Partial<ProfileStatus>, string][])(
  'where there are none it says why: %j',
  async (status, words) => {
    await show(status);
    expect(page.text).toContain(words);
    expect(page.node.querySelector('img')).toBeNull();
  }
);
