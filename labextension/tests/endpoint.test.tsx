import axe from 'axe-core';
import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { EndpointView } from '../src/endpointView';
import { pair } from '../src/endpointTraffic';
import { Thing } from '../src/kinds';
import { Platform } from '../src/platform';
import { RunFacts } from '../src/runFacts';
import { ServiceError } from '../src/serviceError';
import {
  endpoint,
  HOSTILE,
  key,
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
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  HTMLCanvasElement.prototype.getContext = () => null;
  page = document.body.appendChild(document.createElement('main'));
  root = createRoot(page);
  service = new StandInService();
  service.endpoints_ = [endpoint('digits')];
  platform = new Platform(service.service);
  platform.me = me();
  actions = new StandInActions();
  answer.accept = true;
  answer.asked = [];
});

afterEach(() => {
  act(() => root.unmount());
  page.remove();
});

async function view(
  View: typeof EndpointView,
  kind: Thing['kind'],
  name: string
): Promise<void> {
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

const open = (): Promise<void> => view(EndpointView, 'endpoints', 'digits');

function button(name: string): HTMLButtonElement {
  const found = [...page.querySelectorAll('button')].find(
    one => (one.getAttribute('aria-label') ?? one.textContent ?? '') === name
  );
  expect(found, `a button ${name}`).toBeDefined();
  return found!;
}

const click = (name: string): Promise<void> =>
  act(async () => button(name).click());

type Field = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

function field(label: string): Field {
  const found = [...page.querySelectorAll('label')].find(
    one => one.firstChild?.textContent?.trim() === label
  );
  expect(found, `a field ${label}`).toBeDefined();
  return found!.control as Field;
}

/** As somebody types: React hears of it through the element's own setter. */
const fill = (label: string, value: string): Promise<void> =>
  act(async () => {
    const at = field(label);
    const own = Object.getOwnPropertyDescriptor(
      Object.getPrototypeOf(at),
      'value'
    )!;
    own.set!.call(at, value);
    at.dispatchEvent(new Event('input', { bubbles: true }));
    at.dispatchEvent(new Event('change', { bubbles: true }));
  });

/** As somebody lets a file go over the page. */
const give = (file: File): Promise<void> =>
  act(async () => {
    const drop = new Event('drop', { bubbles: true, cancelable: true });
    Object.assign(drop, { dataTransfer: { files: [file] } });
    page.querySelector('.jp-aiaas-drop')!.dispatchEvent(drop);
    // The browser reads it beside the page.
    await new Promise(resolve => setTimeout(resolve, 50));
  });

async function violations(): Promise<string[]> {
  const found = await axe.run(page, {
    rules: { 'color-contrast': { enabled: false } }
  });
  return found.violations.map(one => `${one.id}: ${one.nodes[0]?.html}`);
}

test('a key is shown once, and can be copied', async () => {
  await open();
  expect(page.textContent).toContain('No keys yet.');
  await fill('For whom', HOSTILE);
  await fill('For how long', '7');
  await click('Make a key');
  expect(service.asked).toContain(
    `key ${JSON.stringify({ note: HOSTILE, expires_in_days: 7 })}`
  );
  expect(page.textContent).toContain('the-secret');
  expect(page.querySelector('img')).toBeNull();
  expect(await violations()).toEqual([]);
  await click('Copy the key');
  expect(actions.copied).toEqual(['the-secret']);
  await click('I have it');
  expect(page.textContent).not.toContain('the-secret');
  expect(page.textContent).toContain(HOSTILE);
});

test('a key is revoked by who says so twice', async () => {
  service.keys_ = [
    key('a1'),
    key('b2', { expires_at: '2020-01-01T00:00:00Z' })
  ];
  await open();
  expect(page.textContent).toContain('expired');
  answer.accept = false;
  await click('Revoke key a1');
  expect(service.asked).not.toContain('revoke a1');
  answer.accept = true;
  await click('Revoke key a1');
  expect(answer.asked).toEqual(['Revoke key a1?', 'Revoke key a1?']);
  expect(service.asked).toContain('revoke a1');
  expect(page.textContent).toContain('revoked');
});

test('a refused key is said, and the list is read again', async () => {
  await open();
  service.createKey = async () => {
    throw new ServiceError('digits is retired.', 'Publish it again.', 409);
  };
  await click('Make a key');
  expect(page.querySelector('[role=alert]')?.textContent).toContain(
    'digits is retired.Publish it again.'
  );
  expect(service.asked.filter(one => one === 'keys')).toHaveLength(2);
});

test('the requests are shared between the two newest versions', async () => {
  service.endpoints_ = [
    endpoint('digits', { traffic: { '2': 80, '3': 20 }, former: { '1': 100 } })
  ];
  await open();
  expect(button('Set the traffic').disabled).toBe(true);
  await fill('Share of v3', '35');
  expect(page.textContent).toContain('v2 65 %, v3 35 %');
  await click('Set the traffic');
  expect(service.asked).toContain('traffic {"2":65,"3":35}');
  expect(answer.asked).toEqual([]);
  await fill('Share of v3', '100');
  answer.accept = false;
  await click('Set the traffic');
  expect(answer.asked).toEqual(['Set the traffic of digits?']);
  expect(service.asked).not.toContain('traffic {"2":0,"3":100}');
  expect(await violations()).toEqual([]);
});

test('where one version is known there is nothing to share', () => {
  expect(pair(endpoint('a', { former: {} }))).toBeNull();
  expect(pair(endpoint('a', { traffic: {}, former: { '1': 100 } }))).toBeNull();
  expect(pair(endpoint('a', { traffic: { '10': 100 } }))).toEqual([1, 10]);
});

test('rows are asked about as they are typed', async () => {
  service.trial_ = {
    ...service.trial_,
    takes: 'Give a line of 2 numbers.',
    sample: '0 0',
    programs: { python: 'import json', curl: 'curl it' }
  };
  service.answer_ = {
    titles: ['row', 'label', 'y'],
    lines: [['1', HOSTILE, '0.5']],
    said: 'answered by version 2',
    seen: ''
  };
  await open();
  expect(field('Rows').value).toBe('0 0');
  await fill('Rows', '1 2');
  await fill('Ask', '2');
  await click('Ask it');
  expect(service.asked).toContain('ask 2: 1 2');
  expect(page.textContent).toContain('answered by version 2');
  expect(page.textContent).toContain(HOSTILE);
  expect(page.querySelector('img')).toBeNull();
  expect(await violations()).toEqual([]);

  service.ask = async () => {
    throw new ServiceError('A row has 2 numbers.', 'Give two.', 400);
  };
  await click('Ask it');
  expect(page.querySelector('[role=alert]')?.textContent).toContain(
    'A row has 2 numbers.Give two.'
  );
  expect(page.textContent).not.toContain('answered by version 2');
});

test('a text is asked about as a text', async () => {
  service.trial_ = {
    ...service.trial_,
    takes: 'Type a text.',
    takes_text: true,
    sample: 'so far so good'
  };
  await open();
  expect(field('Text').getAttribute('spellcheck')).toBe('true');
  await fill('Text', 'two\nlines');
  await click('Ask it');
  expect(service.asked).toContain('ask null: two\nlines');
  expect(await violations()).toEqual([]);
});

test('a picture is sent as it was chosen, and seen as it was sent', async () => {
  const form = {
    takes: 'It is cut to 28 by 28 pixels.',
    scales: { unit: '0 to 1', byte: '0 to 255' },
    is_likely: true,
    most_bytes: 10
  };
  service.trial_ = {
    ...service.trial_,
    takes: 'JSON',
    sample: '0',
    picture: form
  };
  service.answer_ = { ...service.answer_, seen: 'data:image/png;base64,AAAA' };
  await open();
  expect(page.textContent).toContain(form.takes);
  expect(button('Ask it').disabled).toBe(true);
  await give(new File(['12345678901'], 'large.png'));
  expect(page.querySelector('[role=alert]')?.textContent).toContain(
    'large.png is larger than'
  );
  expect(button('Ask it').disabled).toBe(true);
  await give(new File(['pixels'], HOSTILE));
  expect(page.querySelector('[role=alert]')).toBeNull();
  expect(page.textContent).toContain(HOSTILE);
  await fill('Its numbers', 'byte');
  await act(async () =>
    page.querySelector<HTMLInputElement>('[type=checkbox]')!.click()
  );
  await click('Ask it');
  const picture = { content: btoa('pixels'), scale: 'byte', invert: true };
  expect(service.asked).toContain(`ask null: ${JSON.stringify(picture)}`);
  expect(page.querySelectorAll('img')).toHaveLength(1);
  expect(await violations()).toEqual([]);

  // A server that was changed gets no other address into the page.
  service.answer_ = { ...service.answer_, seen: 'http://elsewhere/a.png' };
  await click('Ask it');
  expect(page.querySelector('img')).toBeNull();
  await act(async () =>
    page.querySelectorAll<HTMLInputElement>('[type=radio]')[1]!.click()
  );
  expect(field('Rows').value).toBe('0');
});

test('a program that calls it can be copied', async () => {
  service.trial_ = {
    ...service.trial_,
    takes: 'Give a line with a number.',
    sample: '0',
    programs: { python: 'import json', curl: 'curl it' }
  };
  await open();
  await click('Copy the program');
  await fill('A program that calls it', 'curl');
  await click('Copy the program');
  expect(actions.copied).toEqual(['import json', 'curl it']);
});

test('what it came from is opened from there', async () => {
  service.lineage_ = {
    endpoint: 'eve/digits',
    endpoint_version: 2,
    model: { owner: 'bob', name: 'net', version: 3 },
    run: run('run-a', { name: HOSTILE }),
    datasets: [{ owner: 'eve', name: 'flowers', version: 1 }]
  };
  await open();
  const steps = [...page.querySelectorAll('[aria-label=Lineage] li')];
  expect(steps.map(one => one.textContent)).toEqual([
    'Endpoint digits, version 2',
    'Model bob/net@3',
    `Run ${HOSTILE} · run-a`,
    'Data flowers@1'
  ]);
  await click('flowers@1');
  await click(`${HOSTILE} · run-a`);
  expect(actions.opened).toEqual([
    { kind: 'datasets', owner: 'eve', name: 'flowers' },
    { kind: 'runs', owner: 'eve', name: 'run-a' }
  ]);
});

test('a run that failed goes on as a new one', async () => {
  service.runs_ = [run('run-a', { state: 'failed' })];
  await act(() => platform.refresh());
  await view(RunFacts, 'runs', 'run-a');
  await click('Resume');
  expect(service.asked).toContain('resume run-a');
  expect(actions.opened).toEqual([
    { kind: 'runs', owner: 'eve', name: 'run-next' }
  ]);
  expect(platform.runs.all.map(one => one.id)).toContain('run-next');
  expect(await violations()).toEqual([]);
});

test('what is clicked twice, or again after no answer, is done once', async () => {
  service.runs_ = [run('run-a', { state: 'failed' })];
  await view(RunFacts, 'runs', 'run-a');
  service.refusal = new ServiceError('Nobody answered.', 'Try again.', 0);
  const resume = button('Resume');
  await act(async () => {
    resume.click();
    resume.click();
  });
  service.refusal = null;
  await click('Resume');
  // It went through: whoever wants another one gets another one.
  await click('Resume');
  const [first, ...rest] = service.once;
  expect(first).toMatch(/^[0-9a-f-]{36}$/);
  expect(rest.slice(0, -1)).toEqual([first, first]);
  expect(rest[rest.length - 1]).not.toBe(first);
});

test('another key for somebody else is another one', async () => {
  await open();
  service.refusal = new ServiceError('Nobody answered.', 'Try again.', 0);
  await click('Make a key');
  await click('Make a key');
  await fill('For whom', 'somebody else');
  service.refusal = null;
  await click('Make a key');
  const [first, again, other] = service.once;
  expect(again).toBe(first);
  expect(other).not.toBe(first);
});

test('a run that goes on or succeeded is not resumed', async () => {
  service.runs_ = [run('run-a'), run('run-b', { state: 'running' })];
  for (const id of ['run-a', 'run-b']) {
    await view(RunFacts, 'runs', id);
    expect(page.textContent).not.toContain('Resume');
  }
});
