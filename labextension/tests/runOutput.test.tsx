import { MimeModel } from '@jupyterlab/rendermime';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { Widget } from '@lumino/widgets';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { MIME_TYPE, RunOutput, runOf } from '../src/runOutput';
import { Runs } from '../src/runs';
import { ServiceError } from '../src/serviceError';
import { FollowedRuns } from './following';
import { HOSTILE, run, trans } from './standins';

let service: FollowedRuns;
let output: RunOutput;
let see: (isSeen: boolean) => void;

/** There is no layout here: a test says what is in sight. */
class Observer {
  constructor(tell: (entries: { isIntersecting: boolean }[]) => void) {
    see = isIntersecting => tell([{ isIntersecting }]);
  }
  observe = (): void => undefined;
  unobserve = (): void => undefined;
  disconnect = (): void => undefined;
}

/** Of JupyterLab's renderers: one that shows that it was asked. */
const rendermime = {
  createRenderer: () =>
    Object.assign(new Widget(), {
      renderModel(this: Widget, { data }: MimeModel): Promise<void> {
        this.addClass('saved');
        this.node.textContent = String(data['text/html']);
        return Promise.resolve();
      }
    })
} as unknown as IRenderMimeRegistry;

const shown = (id: string, html?: string): MimeModel =>
  new MimeModel({
    data: {
      [MIME_TYPE]: { run: id, version: 1 },
      ...(html === undefined ? {} : { 'text/html': html })
    }
  });

beforeEach(() => {
  vi.stubGlobal('IntersectionObserver', Observer);
  service = new FollowedRuns(run('run-1', { state: 'running' }));
  output = new RunOutput(new Runs(service.service), rendermime, trans);
  Widget.attach(output, document.body);
});

afterEach(() => {
  vi.useRealTimers();
  output.dispose();
  vi.unstubAllGlobals();
});

const state = (): string | null | undefined =>
  output.node.querySelector('[role=status]')?.textContent;

async function live(): Promise<void> {
  await output.renderModel(shown('run-1'));
  see(true);
  await vi.waitFor(() => expect(state()).toBe('running'));
}

/** By its words, on the page or in the dialog before it. */
async function press(label: string): Promise<void> {
  const button = await vi.waitFor(() => {
    const found = [...document.querySelectorAll('button')].find(
      one => one.textContent === label
    );
    expect(found, label).toBeDefined();
    return found!;
  });
  button.click();
}

/** A dialog before the page, and nothing of it any more where `words` are null. */
const dialog = (words: string | null): Promise<void> =>
  vi.waitFor(() => {
    const said = document.querySelector('.jp-Dialog')?.textContent ?? null;
    expect(said).toEqual(words && expect.stringContaining(words));
  });

test('only the id of a run is taken from a notebook', () => {
  expect(runOf({ [MIME_TYPE]: { run: 'run-1', version: 1 } })).toBe('run-1');
  for (const data of [
    null,
    {},
    { [MIME_TYPE]: 'run-1' },
    { [MIME_TYPE]: { run: '../me' } },
    { [MIME_TYPE]: { run: HOSTILE } }
  ]) {
    expect(runOf(data), JSON.stringify(data)).toBeNull();
  }
});

test('it follows its run as soon as it is seen, and not before', async () => {
  await output.renderModel(shown('run-1'));
  await new Promise(resolve => setTimeout(resolve, 50));
  expect(service.asked).toEqual([]);
  await live();
  expect(service.streams.size).toBe(1);
  service.send({ name: 'end', data: run('run-1') });
  await vi.waitFor(() => expect(state()).toBe('succeeded'));
});

test('it leaves its run when it is long out of sight, not when it scrolls by', async () => {
  await live();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  see(false);
  await vi.advanceTimersByTimeAsync(4_000);
  see(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(service.streams.size).toBe(1);
  see(false);
  await vi.advanceTimersByTimeAsync(4_900);
  expect(service.streams.size).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(service.streams.size).toBe(0);
  see(true);
  await vi.advanceTimersByTimeAsync(100);
  expect(service.streams.size).toBe(1);
});

test('behind another tab of the browser it leaves its run, too', async () => {
  await live();
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const hidden = vi.spyOn(document, 'hidden', 'get').mockReturnValue(true);
  document.dispatchEvent(new Event('visibilitychange'));
  await vi.advanceTimersByTimeAsync(5_100);
  expect(service.streams.size).toBe(0);
  hidden.mockRestore();
  document.dispatchEvent(new Event('visibilitychange'));
  await vi.advanceTimersByTimeAsync(100);
  expect(service.streams.size).toBe(1);
});

test('an output that is gone follows nothing', async () => {
  await live();
  output.dispose();
  await vi.waitFor(() => expect(service.streams.size).toBe(0));
});

test('an output that shows another run follows that one', async () => {
  service.runs.set('run-2', run('run-2', { state: 'queued' }));
  await live();
  await output.renderModel(shown('run-2'));
  await vi.waitFor(() => expect(state()).toBe('queued'));
  expect([...service.streams.values()]).toEqual(['run-2']);
});

test('what was saved is seen until the service tells', async () => {
  await output.renderModel(shown('run-1', 'as it was saved'));
  const saved = (): number => output.node.querySelectorAll('.saved').length;
  expect(output.node.textContent).toContain('as it was saved');
  await output.renderModel(shown('run-1', 'as it was saved'));
  expect(saved()).toBe(1);
  see(true);
  await vi.waitFor(() => expect(state()).toBe('running'));
  await vi.waitFor(() => expect(saved()).toBe(0));
});

test('where the service refuses, what was saved stays, and it is said why', async () => {
  service.refusal = new ServiceError(HOSTILE, 'Sign in.', 403);
  await output.renderModel(shown('run-1', 'as it was saved'));
  see(true);
  await vi.waitFor(() =>
    expect(state()).toBe(`Run run-1 is not shown live. ${HOSTILE} Sign in.`)
  );
  expect(output.node.textContent).toContain('as it was saved');
  expect(output.node.querySelector('img')).toBeNull();
});

test('a run is cancelled by who says so twice', async () => {
  await live();
  await press('Cancel');
  await dialog('Cancel run run-1?');
  await press('Let it run');
  await dialog(null);
  expect(service.asked).not.toContain('cancel run-1');
  await press('Cancel');
  await press('Cancel the run');
  await vi.waitFor(() => expect(state()).toBe('cancelled'));
  await dialog(null);
});

test('that it was not cancelled is said', async () => {
  await live();
  service.refusal = new ServiceError(`${HOSTILE} is over.`, '', 409);
  await press('Cancel');
  await press('Cancel the run');
  await dialog('Run run-1 was not cancelled');
  await dialog(`${HOSTILE} is over.`);
  await press('Ok');
  await dialog(null);
});
