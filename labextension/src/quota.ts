/** What may still be used. */

import { TranslationBundle } from '@jupyterlab/translation';

import { digits } from './curves';
import { plain } from './logTail';
import { Me } from './wire';

/** What is left of each quota that has a limit, the scarcest first. */
export function quotaLeft(me: Me, trans: TranslationBundle): string[] {
  const held = Object.entries(me.quota ?? {}).flatMap(
    ([name, { used, limit }]) =>
      limit === null ? [] : [{ name, used, limit, unit: '' }]
  );
  return [...me.allowances, ...held]
    .filter(({ limit }) => limit > 0)
    .sort((a, b) => b.used / b.limit - a.used / a.limit)
    .map(({ name, used, limit, unit }) =>
      trans.__(
        '%1 of %2 %3 left',
        digits(Math.max(0, limit - used)),
        `${digits(limit)}${unit ? ` ${unit}` : ''}`,
        plain(name)
      )
    );
}

/** How many GPUs the user's runs have, where it is any. */
export function gpusInUse(me: Me, trans: TranslationBundle): string[] {
  const used = me.quota?.gpus.used ?? 0;
  return used > 0 ? [trans._n('%1 GPU', '%1 GPUs', used)] : [];
}
