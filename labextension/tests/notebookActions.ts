/** In place of `@jupyterlab/notebook`, whose modules are not loaded without JupyterLab's bundler. */

import { Signal } from '@lumino/signaling';

export interface Executed {
  cell: { model: object };
  success: boolean;
}

const executed = new Signal<object, Executed>({});

export const NotebookActions = {
  executed,
  /** Below which notebooks a cell was inserted. */
  below: [] as object[],
  insertBelow(notebook: { insertBelow?: () => void }): void {
    NotebookActions.below.push(notebook);
    notebook.insertBelow?.();
  }
};
