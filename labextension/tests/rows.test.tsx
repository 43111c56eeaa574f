import * as React from 'react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { kinds } from '../src/kinds';
import { Platform } from '../src/platform';
import { Rows } from '../src/rows';
import { TestPage } from './page';
import {
  dataset,
  endpoint,
  HOSTILE,
  me,
  model,
  run,
  StandInActions,
  StandInService,
  trans
} from './standins';

const page = new TestPage();

beforeEach(() => {
  // There is no layout here: each element is as tall as a panel's list.
  vi.spyOn(Element.prototype, 'clientHeight', 'get').mockReturnValue(400);
});

afterEach(() => {
  vi.restoreAllMocks();
});

const NAME = `${HOSTILE}\x1b[31m\u202e`;

test.each(['datasets', 'runs', 'models', 'endpoints'] as const)(
  'what anybody called one of the %s is text in its row, and a word in its code',
  async id => {
    const service = new StandInService();
    service.datasets_ = [dataset(NAME, { owner: NAME })];
    service.runs_ = [run('run-1', { name: NAME })];
    service.models_ = [model(NAME, { owner: NAME, aliases: { [NAME]: 1 } })];
    service.endpoints_ = [endpoint(NAME, { owner: NAME })];
    const platform = new Platform(service.service);
    platform.me = me();
    await platform.refresh();
    const kind = kinds(platform, trans).find(one => one.id === id)!;
    const actions = new StandInActions();
    await page.show(<Rows kind={kind} actions={actions} trans={trans} />);
    const name = page.node.querySelector('.jp-aiaas-row-name')!;
    expect(name.textContent).toContain(HOSTILE);
    expect(page.node.querySelector('img')).toBeNull();
    expect(page.text).not.toMatch(/[\x1b\u202e]/); // eslint-disable-line no-control-regex
    await page.click(`Insert code for ${name.textContent}`);
    expect(actions.inserted[0]).toMatch(/^%aiaas [a-z]+ /);
    expect(actions.inserted[0]).not.toMatch(/[\x1b\n]/); // eslint-disable-line no-control-regex
  }
);
