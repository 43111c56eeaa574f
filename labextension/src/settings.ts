/** What a user chose in JupyterLab's settings. */

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ISignal, Signal } from '@lumino/signaling';

export interface Chosen {
  notifications: boolean;
  badges: boolean;
  statusItem: boolean;
  refreshSeconds: number;
}

/** As in `schema/panel.json`. */
const USUAL: Chosen = {
  notifications: true,
  badges: true,
  statusItem: true,
  refreshSeconds: 10
};

export class Settings {
  get chosen(): Chosen {
    return this._chosen;
  }

  get changed(): ISignal<this, Chosen> {
    return this._changed;
  }

  /** What is usual stays where there is no registry, or nothing in it. */
  async follow(
    registry: ISettingRegistry | null,
    plugin: string
  ): Promise<void> {
    const settings = await registry?.load(plugin).catch(() => null);
    if (!settings) {
      return;
    }
    const take = (): void => {
      // The registry has checked it against the schema.
      this._chosen = { ...USUAL, ...(settings.composite as object) };
      this._changed.emit(this._chosen);
    };
    settings.changed.connect(take);
    take();
  }

  private readonly _changed = new Signal<this, Chosen>(this);
  private _chosen = USUAL;
}
