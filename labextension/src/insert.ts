/** Put code where the cursor is. */

import { Clipboard, Notification } from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';

/** Into the notebook in front; a cell of text gets a cell of code below it. */
export function insert(
  code: string,
  notebooks: INotebookTracker | null,
  trans: TranslationBundle
): boolean {
  const panel = notebooks?.currentWidget;
  if (!panel || !panel.model || panel.isDisposed) {
    Notification.warning(
      trans.__(
        'There is no notebook to insert it into. Open one, and click into a cell; or type: %1',
        code
      ),
      { autoClose: 8000 }
    );
    return false;
  }
  const notebook = panel.content;
  const isCell = code.startsWith('%%');
  const here = notebook.activeCell;
  // A cell's magic is a cell's first line.
  if (
    !here ||
    here.model.type !== 'code' ||
    (isCell && here.model.sharedModel.source.trim() !== '')
  ) {
    NotebookActions.insertBelow(notebook);
  }
  const cell = notebook.activeCell;
  const editor = cell?.editor;
  if (!cell || !editor) {
    return false;
  }
  const { line, column } = editor.getCursorPosition();
  const before = (editor.getLine(line) ?? '').slice(0, column);
  const after = (editor.getLine(line) ?? '').slice(column);
  // A magic has a line of its own.
  const text = [before.trim() ? '\n' : '', code, after.trim() ? '\n' : ''].join(
    ''
  );
  editor.replaceSelection?.(text);
  notebook.mode = 'edit';
  panel.activate();
  editor.focus();
  return true;
}

export function copy(code: string, trans: TranslationBundle): void {
  Clipboard.copyToSystem(code);
  Notification.info(trans.__('Copied.'), { autoClose: 2000 });
}
