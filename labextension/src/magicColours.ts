/** Cells of `%%aiaas` in colours: the magic's line by its parts, and SQL below `%%aiaas sql`. */

import { highlightingFor, LanguageSupport } from '@codemirror/language';
import { Extension, Prec, Range, StateEffect, Text } from '@codemirror/state';
import {
  Decoration,
  DecorationSet,
  EditorView,
  PluginValue,
  ViewPlugin,
  ViewUpdate
} from '@codemirror/view';
import { CodeEditor } from '@jupyterlab/codeeditor';
import {
  IEditorExtensionRegistry,
  IEditorLanguageRegistry
} from '@jupyterlab/codemirror';
import { highlightTree, Tag } from '@lezer/highlight';

import { isSql, Part, piecesOf } from './magicLine';

const PYTHON: ReadonlySet<string> = new Set([
  'text/x-ipython',
  'text/x-python'
]);
/** Of a query; what is longer stays as it is beyond. */
const MOST_CHARACTERS = 50_000;

const MARKS = Object.fromEntries(
  (['magic', 'verb', 'option', 'value', 'filled'] as const).map(part => [
    part,
    Decoration.mark({ class: `jp-aiaas-code-${part}` })
  ])
) as Record<Part, Decoration>;
const QUERY = Decoration.mark({ class: 'jp-aiaas-code-sql' });

type Tree = Parameters<typeof highlightTree>[0];

export function colourMagics(
  extensions: IEditorExtensionRegistry,
  languages: IEditorLanguageRegistry
): void {
  const sql = new Sql(languages);
  extensions.addExtension({
    name: '@aiaas-hub/labextension:magics',
    // Of cells; a file of Python has no magics.
    factory: ({ inline, model }) =>
      inline
        ? { instance: () => magicColours(model, sql), reconfigure: () => null }
        : null
  });
}

/** JupyterLab's own SQL, which it loads when somebody needs it. */
export class Sql {
  constructor(
    private readonly _languages: Pick<IEditorLanguageRegistry, 'getLanguage'>
  ) {}

  language: LanguageSupport['language'] | null = null;

  /** Settled once it is there, or cannot be had. */
  load(): Promise<void> {
    this._loading ??= this._languages.getLanguage('sql').then(
      found => {
        this.language = found?.support?.language ?? null;
      },
      // Without it a query looks as Python does.
      () => undefined
    );
    return this._loading;
  }

  private _loading: Promise<void> | null = null;
}

const sqlIsThere = StateEffect.define<null>();

/** In an editor whose model holds Python, from when it does. */
export function magicColours(
  model: Pick<CodeEditor.IModel, 'mimeType'>,
  sql: Sql
): Extension {
  const plugin = ViewPlugin.define(view => new MagicColours(view, model, sql), {
    decorations: plugin => plugin.decorations
  });
  // Inside what Python makes of the same words, so that it is what is seen.
  return Prec.highest(plugin);
}

class MagicColours implements PluginValue {
  constructor(
    view: EditorView,
    private readonly _model: Pick<CodeEditor.IModel, 'mimeType'>,
    private readonly _sql: Sql
  ) {
    this.decorations = this._decorate(view);
  }

  decorations: DecorationSet;

  update({
    docChanged,
    viewportChanged,
    transactions,
    view
  }: ViewUpdate): void {
    if (
      docChanged ||
      viewportChanged ||
      // By JupyterLab for another language or theme, or by ourselves.
      transactions.some(
        one => one.reconfigured || one.effects.some(it => it.is(sqlIsThere))
      )
    ) {
      this.decorations = this._decorate(view);
    }
  }

  destroy(): void {
    this._isGone = true;
  }

  private _decorate(view: EditorView): DecorationSet {
    if (!PYTHON.has(this._model.mimeType)) {
      return Decoration.none;
    }
    const { doc } = view.state;
    const first = firstLine(doc);
    const found: Range<Decoration>[] = [];
    for (const { from, to } of view.visibleRanges) {
      for (let at = from; at <= to;) {
        const line = doc.lineAt(at);
        for (const one of piecesOf(line.text, line.number === first)) {
          found.push(
            MARKS[one.part].range(line.from + one.from, line.from + one.to)
          );
        }
        at = line.to + 1;
      }
    }
    if (first < doc.lines && isSql(doc.line(first).text)) {
      found.push(...this._query(view, doc.line(first).to + 1));
    }
    return Decoration.set(found, true);
  }

  private _query(view: EditorView, begin: number): Range<Decoration>[] {
    const { language } = this._sql;
    if (language === null) {
      void this._sql.load().then(() => {
        if (this._sql.language !== null && !this._isGone) {
          view.dispatch({ effects: sqlIsThere.of(null) });
        }
      });
      return [];
    }
    const { state } = view;
    const end = Math.min(state.doc.length, begin + MOST_CHARACTERS);
    if (this._parsed?.of !== state.doc) {
      const tree = language.parser.parse(state.sliceDoc(begin, end));
      this._parsed = { of: state.doc, tree };
    }
    const { tree } = this._parsed;
    // In the colours of the editor's own theme, whichever it is.
    const theme = {
      style: (tags: readonly Tag[]) => highlightingFor(state, tags)
    };
    const found: Range<Decoration>[] = [];
    for (const range of view.visibleRanges) {
      const from = Math.max(range.from, begin);
      const to = Math.min(range.to, end);
      if (from >= to) {
        continue;
      }
      // Around the query's own colours, and within Python's.
      found.push(QUERY.range(from, to));
      highlightTree(
        tree,
        theme,
        (from, to, style) =>
          found.push(
            Decoration.mark({ class: style }).range(begin + from, begin + to)
          ),
        from - begin,
        to - begin
      );
    }
    return found;
  }

  private _parsed: { of: Text; tree: Tree } | null = null;
  private _isGone = false;
}

/** The number of the line that a cell begins with: IPython passes over blank ones. */
function firstLine(doc: Text): number {
  let number = 1;
  while (number < doc.lines && !doc.line(number).text.trim()) {
    number += 1;
  }
  return number;
}
