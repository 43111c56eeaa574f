/** What can be done with what is shown, wherever it is shown. */

import { Thing } from './kinds';

export interface Actions {
  /** Show it in the main area. */
  open(thing: Thing): void;
  /** Put code at the cursor of the notebook. */
  insert(code: string): void;
  copy(code: string): void;
}
