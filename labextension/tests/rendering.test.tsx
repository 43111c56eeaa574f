import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import type { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { createMarkdownParser } from '@jupyterlab/markedparser-extension';
import {
  RenderMimeRegistry,
  standardRendererFactories
} from '@jupyterlab/rendermime';

import { DatasetView } from '../src/datasetView';
import { JupyterRendering } from '../src/jupyterRendering';
import { Thing } from '../src/kinds';
import { ModelView } from '../src/modelView';
import { Platform } from '../src/platform';
import { Renderings } from '../src/rendering';
import { RunFacts } from '../src/runFacts';
import {
  dataset,
  HOSTILE,
  me,
  model,
  run,
  StandInActions,
  StandInService,
  trans
} from './standins';

// JupyterLab's modules take them for granted, and jsdom has none.
vi.hoisted(() =>
  Object.assign(globalThis, {
    DragEvent: class extends MouseEvent {},
    matchMedia: () => ({ addListener: () => undefined })
  })
);

const ATTACK = `\
# About *flowers*

Seen [by us](https://flowers.example), and [you](javascript:alert(1)).

<script>alert(2)</script><img src="x" onerror="alert(3)">
<iframe srcdoc="<script>alert(4)</script>"></iframe>
<button data-commandlinker-command="aiaas:open" onclick="alert(5)">go</button>
<a href="java\tscript:alert(6)">there</a><svg onload="alert(7)"></svg>
\u202e`;

/** Colours each word of code, as JupyterLab's registry does, and says which language it was. */
const languages = {
  findByMIME: (mime: string) => ({ name: mime }),
  findBest: () => null,
  getLanguage: async () => null,
  highlight: async (code: string, { name }: { name: string }, at: Element) => {
    const word = document.createElement('span');
    word.className = name;
    word.textContent = code;
    at.append(word);
  }
} as unknown as IEditorLanguageRegistry;

let root: Root;
let page: HTMLElement;
let service: StandInService;
let actions: StandInActions;

beforeEach(() => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  page = document.body.appendChild(document.createElement('main'));
  root = createRoot(page);
  service = new StandInService();
  actions = new StandInActions();
});

afterEach(() => {
  act(() => root.unmount());
  page.remove();
});

async function view(
  View: typeof DatasetView,
  kind: Thing['kind'],
  name: string
): Promise<void> {
  const platform = new Platform(service.service);
  platform.me = me();
  const rendermime = new RenderMimeRegistry({
    initialFactories: standardRendererFactories,
    markdownParser: createMarkdownParser(languages)
  });
  await act(async () =>
    root.render(
      <Renderings.Provider value={new JupyterRendering(rendermime, languages)}>
        <View
          thing={{ kind, owner: 'eve', name }}
          platform={platform}
          actions={actions}
          trans={trans}
          isShown
        />
      </Renderings.Provider>
    )
  );
}

const rendered = (): Promise<HTMLElement> =>
  vi.waitFor(() => {
    const found = page.querySelector<HTMLElement>(
      '.jp-aiaas-description > div:not([hidden])'
    );
    expect(found).not.toBeNull();
    return found!;
  }, 5_000);

const SHOWN: [string, () => Promise<void>][] = [
  [
    'dataset',
    () => {
      service.datasets_ = [dataset('flowers', { description: ATTACK })];
      return view(DatasetView, 'datasets', 'flowers');
    }
  ],
  [
    'model',
    () => {
      const digits = model('digits');
      digits.latest.card.description = ATTACK;
      Object.assign(service, { model: async () => digits });
      return view(ModelView, 'models', 'digits');
    }
  ]
];

test.each(SHOWN)(
  "a %s's description is Markdown, and none of it can be run",
  async (_, show) => {
    await act(show);
    const at = await rendered();
    expect(at.querySelector('h1 em')?.textContent).toBe('flowers');
    const links = [...at.querySelectorAll('a[href]')].map(one =>
      one.getAttribute('href')
    );
    expect(links).toContain('https://flowers.example');
    expect(links.filter(one => /script:/.test(one ?? ''))).toEqual([]);
    expect(at.querySelector('script, iframe, button, svg')).toBeNull();
    const attributes = [...at.querySelectorAll('*')].flatMap(one =>
      one.getAttributeNames()
    );
    expect(
      attributes.filter(one => /^on|commandlinker|srcdoc/.test(one))
    ).toEqual([]);
    expect(at.textContent).not.toContain('\u202e');
    // What was there as text until then is not there twice.
    expect(page.querySelector('.jp-aiaas-description > p')).toBeNull();
  }
);

test('the code of a run is shown as it was typed, as text, and can be had', async () => {
  const source = `# %%aiaas train --name a\ndef train(ctx):\n\treturn "${HOSTILE}"\u202e\n`;
  const typed = `%%aiaas train --name a\ndef train(ctx):\n\treturn "${HOSTILE}"`;
  service.runs_ = [run('run-1', { snapshot: { source } })];
  await view(RunFacts, 'runs', 'run-1');
  const shown = page.querySelector('[role=region][aria-label=Code]')!;
  expect(shown.textContent).toBe(typed);
  expect(shown.querySelector('img')).toBeNull();
  expect(shown.querySelector('span')?.className).toBe('text/x-ipython');
  for (const name of ['Insert: Code', 'Copy: Code']) {
    await act(async () =>
      page.querySelector<HTMLElement>(`[aria-label="${name}"]`)!.click()
    );
  }
  expect(actions.inserted).toEqual([typed]);
  expect(actions.copied).toEqual([typed]);
});

test('a run without code has no place for it', async () => {
  service.runs_ = [run('run-1', { snapshot: { source: '' } })];
  await view(RunFacts, 'runs', 'run-1');
  expect(page.querySelector('[aria-label="Insert: Code"]')).toBeNull();
});
