import * as React from 'react';
import { beforeEach, expect, test, vi } from 'vitest';

import { ModelView } from '../src/modelView';
import { Platform } from '../src/platform';
import { TestPage } from './page';
import {
  HOSTILE,
  me,
  model,
  StandInActions,
  StandInService,
  trans
} from './standins';

vi.mock('@jupyterlab/apputils', () => ({}));

const page = new TestPage();
let service: StandInService;
let actions: StandInActions;

beforeEach(() => {
  service = new StandInService();
  actions = new StandInActions();
});

async function show(): Promise<void> {
  const platform = new Platform(service.service);
  platform.me = me();
  const { owner, name } = service.models_[0]!;
  await page.show(
    <ModelView
      thing={{ kind: 'models', owner, name }}
      platform={platform}
      actions={actions}
      trans={trans}
      isShown
    />
  );
}

const facts = (): Record<string, string> =>
  Object.fromEntries(
    [...page.node.querySelectorAll('dl > div')].map(one => [
      one.querySelector('dt')!.textContent,
      one.querySelector('dd')!.textContent
    ])
  );

test('a model says what it is: its card, metrics, names and sides', async () => {
  const plainModel = model('digits');
  service.models_ = [
    model('digits', {
      aliases: { champion: 2, 'last-week': 1 },
      latest: {
        ...plainModel.latest,
        card: {
          description: 'Reads digits.',
          licence: 'MIT',
          metrics: { accuracy: 0.987654, loss: 1e-7 }
        }
      }
    })
  ];
  await show();
  expect(page.text).toContain('Reads digits.');
  expect(facts()).toMatchObject({
    Owner: 'eve',
    Licence: 'MIT',
    Called: 'champion → v2, last-week → v1',
    'Made with': 'torch 2',
    Size: '1.0 KiB',
    Run: 'run-1',
    accuracy: '0.9877',
    loss: '1e-7'
  });
  const rows = [...page.node.querySelectorAll('tbody tr')];
  expect(rows.map(one => one.textContent)).toEqual([
    'inputxfloat3264 × ?',
    'outputyfloat3210'
  ]);
  await page.click('run-1');
  expect(actions.opened).toEqual([
    { kind: 'runs', owner: 'eve', name: 'run-1' }
  ]);
  await page.click('Insert: Publish it');
  expect(actions.inserted).toEqual(['%aiaas publish digits --model digits@2']);
  expect(await page.violations()).toEqual([]);
});

test('an older version can be chosen', async () => {
  service.models_ = [model('digits')];
  await show();
  const select = page.node.querySelector('select')!;
  expect([...select.options].map(one => one.value)).toEqual(['2', '1']);
  expect(select.value).toBe('2');
  await page.choose('1');
  expect(service.asked).toContain('model eve/digits@1');
  expect(page.text).toContain('--model digits@1');
  // The newest is still there to be chosen.
  expect(select.options).toHaveLength(2);
});

test('whatever anybody called something is text', async () => {
  const { latest } = model('digits');
  service.models_ = [
    model('digits', {
      owner: HOSTILE,
      aliases: { [HOSTILE]: 1 },
      latest: {
        ...latest,
        framework: HOSTILE,
        signature: {
          inputs: [{ name: HOSTILE, dtype: HOSTILE, shape: [] }],
          outputs: [],
          labels: [HOSTILE]
        },
        card: {
          description: HOSTILE,
          licence: `${HOSTILE}\u202e`,
          metrics: { [HOSTILE]: 1 }
        }
      }
    })
  ];
  await show();
  expect(page.node.querySelector('img')).toBeNull();
  expect(facts()).toMatchObject({ Licence: HOSTILE, [HOSTILE]: '1' });
  expect(page.text).not.toContain('\u202e');
});

test('a model that no run made names none', async () => {
  const made = model('digits');
  service.models_ = [{ ...made, latest: { ...made.latest, run_id: null } }];
  await show();
  expect(facts()).not.toHaveProperty('Run');
});
