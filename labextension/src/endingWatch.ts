/** Tells whoever works here that the server is about to be stopped, and the server that they work. */

import {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { Poll } from '@lumino/polling';

import { Ending, LOOK_MS, untilDue, warning } from './ending';

const LONGEST_PAUSE_MS = 120_000;
/** How often keys that are pressed are told. */
const WORK_MS = 60_000;
/** While a warning is shown its minutes count down. */
const WARNED_MS = 5_000;
const SAVE_ALL = 'docmanager:save-all';

class Watch {
  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _trans: TranslationBundle
  ) {
    this._poll = new Poll({
      name: '@aiaas-hub/labextension:ending',
      factory: () => this._look(),
      frequency: { interval: LOOK_MS, backoff: true, max: LONGEST_PAUSE_MS },
      // Also while hidden: the warning waits for whoever comes back.
      standby: 'never'
    });
    for (const event of ['keydown', 'pointerdown']) {
      document.addEventListener(event, () => this._touched(), {
        capture: true,
        passive: true
      });
    }
  }

  private async _look(): Promise<void> {
    const response = await this._request('GET');
    if (response.status === 404) {
      // An older server extension, or none.
      this._poll.dispose();
      return;
    }
    if (!response.ok) {
      throw new Error(`HTTP ${response.status}`);
    }
    this._show((await response.json()) as Ending);
  }

  private _show(ending: Ending): void {
    if (ending.seconds_left === null) {
      // Of this server nothing is to be told, ever.
      this._poll.dispose();
      return;
    }
    const said = warning(ending, this._trans);
    const interval = said === null ? untilDue(ending) : WARNED_MS;
    if (this._poll.frequency.interval !== interval) {
      this._poll.frequency = { ...this._poll.frequency, interval };
    }
    if (said === null) {
      this._dismiss();
    } else if (this._said?.why !== ending.why) {
      this._dismiss();
      const actions = [this._action(ending.why)];
      const id = Notification.warning(said, { autoClose: false, actions });
      this._said = { id, why: ending.why };
    } else if (this._said) {
      Notification.update({ id: this._said.id, message: said });
    }
  }

  private _action(why: Ending['why']): Notification.IAction {
    return why === 'idle'
      ? {
          label: this._trans.__('Keep working'),
          caption: this._trans.__('The server goes on'),
          callback: () => void this._tell()
        }
      : {
          label: this._trans.__('Save all'),
          caption: this._trans.__('Save every open file'),
          callback: () => void this._app.commands.execute(SAVE_ALL)
        };
  }

  private _dismiss(): void {
    if (this._said) {
      Notification.dismiss(this._said.id);
      this._said = null;
    }
  }

  private _touched(): void {
    if (this._poll.isDisposed) {
      return;
    }
    const due = this._said?.why === 'idle' ? WARNED_MS : WORK_MS;
    if (Date.now() - this._told >= due) {
      void this._tell();
    }
  }

  private async _tell(): Promise<void> {
    this._told = Date.now();
    try {
      await this._request('POST');
      await this._poll.refresh();
    } catch {
      // Asked again at the next key.
      this._told = 0;
    }
  }

  private _request(method: string): Promise<Response> {
    const settings = this._app.serviceManager.serverSettings;
    const url = URLExt.join(settings.baseUrl, 'aiaas/ending');
    return ServerConnection.makeRequest(url, { method }, settings);
  }

  private readonly _poll: Poll;
  private _said: { id: string; why: Ending['why'] } | null = null;
  private _told = 0;
}

export const ending: JupyterFrontEndPlugin<void> = {
  id: '@aiaas-hub/labextension:ending',
  description: 'Warns before the server is stopped.',
  autoStart: true,
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('aiaas_hub');
    void app.restored.then(() => new Watch(app, trans));
  }
};
