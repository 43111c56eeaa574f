import * as React from 'react';
import { act } from 'react';
import { beforeEach, expect, test, vi } from 'vitest';

import { EndpointView } from '../src/endpointView';
import { Platform } from '../src/platform';
import type { Endpoint } from '../src/wire';
import { TestPage } from './page';
import {
  endpoint,
  HOSTILE,
  me,
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
  showDialog: async ({ title, body }: { title: string; body: string }) => {
    answer.asked.push(`${title} ${body}`);
    return { button: { accept: answer.accept } };
  }
}));

const page = new TestPage();
let service: StandInService;
let platform: Platform;

beforeEach(() => {
  service = new StandInService();
  platform = new Platform(service.service);
  platform.me = me();
  answer.accept = true;
  answer.asked = [];
});

function canaryOf(name: string): Endpoint {
  const [live] = endpoint(name).versions;
  return endpoint(name, {
    state: 'canary',
    traffic: { '2': 90, '3': 10 },
    versions: [
      {
        ...live!,
        version: 3,
        state: 'canary',
        plan: { percent: 10, bake_seconds: null }
      },
      live!
    ]
  });
}

async function open(one: Endpoint): Promise<void> {
  service.endpoints_ = [one];
  await page.show(
    <EndpointView
      thing={{ kind: 'endpoints', owner: one.owner, name: one.name }}
      platform={platform}
      actions={new StandInActions()}
      trans={trans}
      isShown
    />
  );
}

const changes = (): string[] =>
  service.asked.filter(one => /^(promote|rollback|retire) /.test(one));

test('a canary is promoted by who says so twice, and is seen promoted', async () => {
  service.endpoints_ = [canaryOf('digits')];
  await platform.refresh();
  await open(service.endpoints_[0]!);
  answer.accept = false;
  await page.click('Promote');
  expect(answer.asked).toEqual([
    'Promote the canary of digits? Version 3 gets all requests at once.'
  ]);
  expect(changes()).toEqual([]);
  answer.accept = true;
  // What the service then answers.
  service.endpoints_ = [
    endpoint('digits', { traffic: { '3': 100 }, former: { '2': 100 } })
  ];
  await page.click('Promote');
  expect(changes()).toEqual(['promote digits']);
  expect(page.node.querySelector('[role=status]')?.textContent).toBe('serving');
  expect(page.text).toContain('v3 100 %');
  expect(page.text).not.toContain('Promote');
  // The list at the side need not wait for its turn.
  expect(platform.endpoints.all.map(one => one.state)).toEqual(['serving']);
});

test('while it is changed nothing else can be', async () => {
  await open(canaryOf('digits'));
  let done = (_: Endpoint): void => undefined;
  service.change = () => new Promise(resolve => (done = resolve));
  await page.click('Promote');
  for (const name of ['Promote', 'Roll back', 'Retire']) {
    expect(page.button(name).disabled, name).toBe(true);
  }
  await act(async () => done(endpoint('digits')));
});

test('an endpoint of any name is text, where it is asked about too', async () => {
  const one = canaryOf(`${HOSTILE}\u202e`);
  one.versions[0]!.error = HOSTILE;
  one.versions[0]!.model.name = HOSTILE;
  await open(one);
  await page.click('Promote');
  expect(answer.asked[0]).toContain(`Promote the canary of ${HOSTILE}?`);
  expect(page.node.querySelector('img')).toBeNull();
  expect(page.text).toContain(`${HOSTILE}@3`);
  expect(page.text).not.toContain('\u202e');
});
