import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ServerConnection } from '@jupyterlab/services';
import { TranslationManager } from '@jupyterlab/translation';
import ts from 'typescript';
import { expect, test } from 'vitest';

const SOURCE = join(__dirname, '..', 'src');
const LOCALES = join(__dirname, '..', '..', 'aiaas_magics', 'lab', 'locale');

type Catalogue = Record<string, string[]>;

const read = (locale: string): Record<string, unknown> =>
  JSON.parse(
    readFileSync(
      join(LOCALES, locale, 'LC_MESSAGES', 'aiaas_hub.json'),
      'utf-8'
    )
  );

function catalogue(locale: string): Catalogue {
  const { '': _, ...messages } = read(locale);
  return messages as Catalogue;
}

/** What is said anywhere: English → how many forms of it there must be. */
function said(): Map<string, number> {
  const found = new Map<string, number>();
  for (const file of readdirSync(SOURCE)) {
    const kind = file.endsWith('x') ? ts.ScriptKind.TSX : ts.ScriptKind.TS;
    const text = readFileSync(join(SOURCE, file), 'utf-8');
    const visit = (node: ts.Node): void => {
      if (
        ts.isCallExpression(node) &&
        ts.isPropertyAccessExpression(node.expression) &&
        ['__', '_n'].includes(node.expression.name.text)
      ) {
        const [first] = node.arguments;
        const at = `${file}: ${node.getText()}`;
        // What is put together at run time is in no catalogue.
        expect(first && ts.isStringLiteralLike(first), at).toBe(true);
        found.set(
          (first as ts.StringLiteralLike).text,
          node.expression.name.text === '_n' ? 2 : 1
        );
      }
      ts.forEachChild(node, visit);
    };
    visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true, kind));
  }
  return found;
}

const places = (text: string): string[] => [...new Set(text.match(/%\d/g))];

test.each(readdirSync(LOCALES))('%s says all that is said', locale => {
  const english = said();
  const translated = catalogue(locale);
  expect(english.size).toBeGreaterThan(200);
  expect(Object.keys(translated).sort()).toEqual([...english.keys()].sort());
  for (const [message, forms] of Object.entries(translated)) {
    expect(forms, message).toHaveLength(english.get(message)!);
    for (const form of forms) {
      expect(form.trim(), message).not.toBe('');
      expect(places(form).sort(), message).toEqual(places(message).sort());
    }
  }
});

test("JupyterLab's own translator reads it", async () => {
  const answer = { data: { aiaas_hub: read('zh_CN') }, message: '' };
  const settings = ServerConnection.makeSettings({
    baseUrl: 'http://notebook/',
    fetch: async () => new Response(JSON.stringify(answer))
  });
  const manager = new TranslationManager('', '', settings);
  await manager.fetch('zh_CN');
  const trans = manager.load('aiaas_hub');
  expect(trans.__('Datasets')).toBe('数据集');
  expect(trans.__('Roll %1 back?', 'digits')).toBe('要回滚 digits 吗？');
  expect(trans._n('%1 run', '%1 runs', 2)).toBe('2 个运行');
  expect(trans._n('%1 run', '%1 runs', 1)).toBe('1 个运行');
  expect(trans.__('nobody translated this')).toBe('nobody translated this');
});
