import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { INotebookTracker } from '@jupyterlab/notebook';
import { beforeEach, expect, test, vi } from 'vitest';

import { copy, insert } from '../src/insert';
import { trans } from './standins';

const said = vi.hoisted(() => ({ warned: [] as string[], copied: '' }));
vi.mock('@jupyterlab/apputils', () => ({
  Clipboard: { copyToSystem: (text: string) => (said.copied = text) },
  Notification: {
    warning: (text: string) => said.warned.push(text),
    info: () => undefined
  }
}));
vi.mock('@jupyterlab/notebook', () => import('./notebookActions'));

/** A cell with an editor of one line, as far as code is put into it. */
class StandInCell {
  constructor(
    readonly type: string,
    private readonly _text = '',
    private readonly _column = _text.length
  ) {}

  placed: string | null = null;
  hasFocus = false;
  ready = Promise.resolve();

  get model(): unknown {
    return { type: this.type, sharedModel: { source: this._text } };
  }

  editor = {
    getCursorPosition: () => ({ line: 0, column: this._column }),
    getLine: () => this._text,
    replaceSelection: (text: string) => void (this.placed = text),
    focus: () => void (this.hasFocus = true)
  };
}

let front: string[];
beforeEach(() => {
  front = [];
  said.warned = [];
});

async function put(code: string, here: StandInCell): Promise<StandInCell> {
  const content = {
    activeCell: here,
    mode: 'command',
    scrollToCell: () => Promise.reject(new Error('not drawn')),
    insertBelow: () => void (content.activeCell = new StandInCell('code'))
  };
  const currentWidget = { id: 'a-notebook', model: {}, content };
  await insert(
    code,
    { currentWidget } as unknown as INotebookTracker,
    shell,
    trans
  );
  expect(content.mode).toBe('edit');
  return content.activeCell;
}

const shell = {
  activateById: (id: string) => void front.push(id)
} as unknown as JupyterFrontEnd.IShell;

test('code goes where the cursor is, and the notebook comes to the front', async () => {
  const here = new StandInCell('code');
  expect(await put('%aiaas runs', here)).toBe(here);
  expect(here.placed).toBe('%aiaas runs');
  expect(here.hasFocus).toBe(true);
  expect(front).toEqual(['a-notebook']);
});

test('a magic has a line of its own', async () => {
  const here = new StandInCell('code', 'x = 1', 4);
  await put('%aiaas runs', here);
  expect(here.placed).toBe('\n%aiaas runs\n');
});

test.each([
  ['below a text', '%aiaas runs', new StandInCell('markdown', 'A title')],
  ['below code, for a cell', '%%aiaas train', new StandInCell('code', 'x = 1')]
])('%s there is a new cell for it', async (_, code, here) => {
  const made = await put(code, here);
  expect(made).not.toBe(here);
  expect([here.placed, made.placed]).toEqual([null, code]);
});

test("a cell's magic goes into a cell that is empty", async () => {
  const here = new StandInCell('code', '  ');
  expect(await put('%%aiaas train', here)).toBe(here);
});

test.each([null, { currentWidget: null }])(
  'without a notebook it says what to do',
  async notebooks => {
    await insert(
      '%aiaas runs',
      notebooks as INotebookTracker | null,
      shell,
      trans
    );
    expect(said.warned).toHaveLength(1);
    expect(said.warned[0]).toContain('type: %aiaas runs');
    expect(front).toEqual([]);
  }
);

test('what is copied is the code', () => {
  copy('%aiaas runs', trans);
  expect(said.copied).toBe('%aiaas runs');
});
