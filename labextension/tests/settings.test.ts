import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Signal } from '@lumino/signaling';
import { expect, test } from 'vitest';

import schema from '../schema/panel.json';
import { Settings } from '../src/settings';

test('what is usual is what the schema says', () => {
  const usual = Object.entries(schema.properties).map(([name, one]) => [
    name,
    one.default
  ]);
  expect(new Settings().chosen).toEqual(Object.fromEntries(usual));
  expect(schema.properties.refreshSeconds.minimum).toBe(10);
});

test('what is chosen later is followed', async () => {
  const kept = { composite: { badges: false } };
  const changed = new Signal<object, void>(kept);
  const registry = {
    load: async () => Object.assign(kept, { changed })
  } as unknown as ISettingRegistry;
  const settings = new Settings();
  await settings.follow(registry, 'of-a-plugin');
  expect(settings.chosen).toMatchObject({ badges: false, statusItem: true });
  let told = settings.chosen;
  settings.changed.connect((_, chosen) => (told = chosen));
  kept.composite = { badges: true };
  changed.emit();
  expect(told.badges).toBe(true);
});

test('where nothing is kept, what is usual stays', async () => {
  const settings = new Settings();
  await settings.follow(null, 'of-a-plugin');
  const broken = {
    load: () => Promise.reject(new Error('no schema'))
  } as unknown as ISettingRegistry;
  await settings.follow(broken, 'of-a-plugin');
  expect(settings.chosen.notifications).toBe(true);
});
