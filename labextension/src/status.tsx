/** In the status bar: how many runs go on, and what may still be used. */

import { ReactWidget } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Platform } from './platform';
import { plain } from './logTail';
import { gpusInUse, quotaLeft } from './quota';
import { Settings } from './settings';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly _platform: Platform,
    private readonly _settings: Settings,
    private readonly _open: () => void,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-aiaas-status');
    _platform.changed.connect(this.update, this);
    _settings.changed.connect(this.update, this);
  }

  protected override render(): JSX.Element | null {
    const { me } = this._platform;
    const trans = this._trans;
    if (!me || !this._settings.chosen.statusItem) {
      return null;
    }
    const live = trans._n('%1 run', '%1 runs', this._platform.liveRuns);
    const gpus = gpusInUse(me, trans);
    const left = quotaLeft(me, trans);
    const profile = plain(PageConfig.getOption('aiaasProfile'));
    const said = profile ? [trans.__('Profile %1', profile)] : [];
    const open = trans.__('Open the AIaaS panel');
    return (
      <button
        title={[live, ...gpus, ...said, ...left, open].join('\n')}
        onClick={this._open}
      >
        {[
          `AIaaS: ${live}`,
          ...gpus,
          ...(profile ? [profile] : []),
          ...left.slice(0, 1)
        ].join(' · ')}
      </button>
    );
  }
}
