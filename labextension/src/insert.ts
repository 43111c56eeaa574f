/** Put code where the cursor is. */

import { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';

import { placed } from './code';

/**
 * Into the notebook that was last in front, which comes to the front again; a cell of text gets a
 * cell of code below it.
 */
export async function insert(
  code: string,
  notebooks: INotebookTracker | null,
  shell: JupyterFrontEnd.IShell,
  trans: TranslationBundle
): Promise<void> {
  const panel = notebooks?.currentWidget;
  if (!panel?.model || panel.isDisposed) {
    Notification.warning(
      trans.__(
        'There is no notebook to insert it into. Open one and click into a cell, or type: %1',
        code
      ),
      { autoClose: 8000 }
    );
    return;
  }
  const notebook = panel.content;
  const here = notebook.activeCell;
  // A cell's magic is a cell's first line.
  const isForCell = code.startsWith('%%');
  if (
    here?.model.type !== 'code' ||
    (isForCell && here.model.sharedModel.source.trim() !== '')
  ) {
    NotebookActions.insertBelow(notebook);
  }
  const cell = notebook.activeCell;
  if (!cell) {
    return;
  }
  // From a view beside it: of a tab behind that one nobody would see anything.
  shell.activateById(panel.id);
  // Where it is out of sight, it has no editor yet.
  await notebook.scrollToCell(cell).catch(() => undefined);
  await cell.ready;
  const { editor } = cell;
  if (!editor) {
    return;
  }
  const { line, column } = editor.getCursorPosition();
  const text = editor.getLine(line) ?? '';
  editor.replaceSelection?.(
    placed(code, text.slice(0, column), text.slice(column))
  );
  notebook.mode = 'edit';
  editor.focus();
}

export function copy(code: string, trans: TranslationBundle): void {
  Clipboard.copyToSystem(code);
  Notification.info(trans.__('Copied.'), { autoClose: 2000 });
}
