import { python } from '@codemirror/lang-python';
import { sql } from '@codemirror/lang-sql';
import { syntaxHighlighting } from '@codemirror/language';
import { EditorState, StateEffect } from '@codemirror/state';
import { EditorView } from '@codemirror/view';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
// Of the package's index half of JupyterLab comes with it.
import { jupyterHighlightStyle } from '@jupyterlab/codemirror/lib/theme';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';

import { magicColours, Sql } from '../src/magicColours';
import { isSql, piecesOf } from '../src/magicLine';

/** As JupyterLab's registry answers: loaded, its own. */
const registry = {
  getLanguage: async (name: string) => {
    expect(name).toBe('sql');
    return { name: 'SQL', mime: 'text/x-sql', support: sql() };
  }
} as unknown as IEditorLanguageRegistry;

let view: EditorView;

beforeAll(() => {
  // There is no layout here.
  Range.prototype.getClientRects = () => [] as unknown as DOMRectList;
});

afterEach(() => view?.destroy());

const parts = (line: string, beginsCell = true): string[] =>
  piecesOf(line, beginsCell).map(
    ({ part, from, to }) => `${part} ${line.slice(from, to)}`
  );

function show(
  doc: string,
  model = { mimeType: 'text/x-ipython' },
  loading = new Sql(registry)
): Sql {
  view = new EditorView({
    parent: document.body,
    state: EditorState.create({
      doc,
      extensions: [
        python(),
        syntaxHighlighting(jupyterHighlightStyle),
        magicColours(model, loading)
      ]
    })
  });
  return loading;
}

/** What has a class, innermost, as it is seen. */
const seen = (part: string): string[] =>
  [...view.contentDOM.querySelectorAll(`.jp-aiaas-code-${part}`)].map(
    one => one.textContent ?? ''
  );

/**
 * In what colour JupyterLab's style shows a word: the innermost of its spans decides. How many more
 * words that one has depends on how far Python has been parsed by now.
 */
function colourOf(word: string): string {
  const found = [...view.contentDOM.querySelectorAll('span')].find(
    one => one.textContent?.includes(word) && !one.firstElementChild
  );
  expect(found, word).toBeDefined();
  const rule = (jupyterHighlightStyle.module?.getRules() ?? '')
    .split('\n')
    .find(one => one.startsWith(`.${found!.className.split(' ')[0]} `));
  return /--jp-mirror-editor-([a-z0-9-]+)-color/.exec(rule ?? '')?.[1] ?? '';
}

test('a line is its magic, its verb, and options with values', () => {
  expect(
    parts('%%aiaas train --name "a b" --param lr={rates["x y"]} --detach')
  ).toEqual([
    'magic %%aiaas',
    'verb train',
    'option --name',
    'value "a b"',
    'option --param',
    'value lr=',
    'filled {rates["x y"]}',
    'option --detach'
  ]);
  expect(parts('  %aiaas runs --state={s} -5', false)).toEqual([
    'magic %aiaas',
    'verb runs',
    'option --state',
    'value =',
    'filled {s}',
    'value -5'
  ]);
  expect(parts('%aiaas')).toEqual(['magic %aiaas']);
});

test('a brace that is doubled, or is not closed, fills in nothing', () => {
  expect(parts('%aiaas load {{x}} {y')).toEqual([
    'magic %aiaas',
    'verb load',
    'value {{x}}',
    'value {y'
  ]);
});

test('what only looks like a magic is none', () => {
  expect(parts('%aiaasx load')).toEqual([]);
  expect(parts('x = 7 %aiaas')).toEqual([]);
  expect(parts('# %aiaas load')).toEqual([]);
  expect(parts('%time load')).toEqual([]);
  expect(parts('%%aiaas train', false)).toEqual([]);
  expect(isSql('%%aiaas sql --into top')).toBe(true);
  expect(isSql('%%aiaas sqlite')).toBe(false);
  expect(isSql('%aiaas sql')).toBe(false);
});

test('a cell is coloured as it is typed', () => {
  show('\n%%aiaas train --name first\ndef train(ctx):\n    pass');
  expect(seen('magic')).toEqual(['%%aiaas']);
  // Python makes two operators and a name of it, which are around these.
  expect(seen('option').join('')).toBe('--name');
  for (const one of view.contentDOM.querySelectorAll('.jp-aiaas-code-option')) {
    expect(one.firstElementChild).toBeNull();
  }
  view.dispatch({
    changes: { from: view.state.doc.length, insert: '\n%aiaas runs' }
  });
  expect(seen('verb')).toEqual(['train', 'runs']);
  view.dispatch({ changes: { from: 0, insert: 'x = 1' } });
  // Not at the cell's beginning any more.
  expect(seen('magic')).toEqual(['%aiaas']);
});

test('what is not Python stays as it is, until it is', () => {
  const model = { mimeType: 'text/x-ipythongfm' };
  show('%aiaas runs', model);
  expect(seen('magic')).toEqual([]);
  model.mimeType = 'text/x-ipython';
  view.dispatch({ effects: StateEffect.appendConfig.of([]) });
  expect(seen('magic')).toEqual(['%aiaas']);
});

test("a query has SQL's colours once SQL is there", async () => {
  const loading = show(
    '%%aiaas sql --into top\nSELECT city_or, pass FROM sales, 7 -- from here\nWHERE x IN (1)'
  );
  expect(seen('sql')).toEqual([]);
  await loading.load();
  await Promise.resolve();
  expect(seen('sql').join('')).toContain('SELECT city_or');
  expect(colourOf('SELECT')).toBe('keyword');
  // A keyword of Python's.
  expect(colourOf('from')).toBe('comment');
  expect(colourOf('7')).toBe('number');
  // Keywords of Python, and none of SQL.
  expect(colourOf('IN')).toBe('keyword');
  expect(seen('sql').join('')).toContain('city_or, pass');
  expect(seen('verb')).toEqual(['sql']);
  // A query no more.
  view.dispatch({ changes: { from: 8, to: 11, insert: 'transform' } });
  expect(seen('sql')).toEqual([]);
});

test('SQL is loaded for nobody who has none, and need not be there', async () => {
  const getLanguage = vi.fn(() => Promise.reject(new Error('no such chunk')));
  const loading = show('%aiaas runs', undefined, new Sql({ getLanguage }));
  expect(getLanguage).not.toHaveBeenCalled();
  view.dispatch({
    changes: { from: 0, to: 11, insert: '%%aiaas sql\nSELECT 1' }
  });
  await loading.load();
  expect(getLanguage).toHaveBeenCalledOnce();
  expect(seen('magic')).toEqual(['%%aiaas']);
  expect(seen('sql')).toEqual([]);
});
