/** Settings that a test chooses, by way of a registry as JupyterLab's is. */

import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Signal } from '@lumino/signaling';

import { Chosen, Settings } from '../src/settings';

export async function chosenSettings(
  first: Partial<Chosen> = {}
): Promise<{ settings: Settings; choose: (chosen: Partial<Chosen>) => void }> {
  const kept = { composite: first };
  const changed = new Signal<object, void>(kept);
  const registry = {
    load: async () => Object.assign(kept, { changed })
  } as unknown as ISettingRegistry;
  const settings = new Settings();
  await settings.follow(registry, 'of-a-plugin');
  return {
    settings,
    choose: chosen => {
      kept.composite = chosen;
      changed.emit();
    }
  };
}
