/** In the status bar: how many runs go on, and what may still be used. */

import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Platform } from './platform';
import { quotaLeft } from './quota';

export class StatusItem extends ReactWidget {
  constructor(
    private readonly _platform: Platform,
    private readonly _open: () => void,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-aiaas-status');
    _platform.changed.connect(this.update, this);
  }

  protected override render(): JSX.Element | null {
    const { me } = this._platform;
    const trans = this._trans;
    if (!me) {
      return null;
    }
    const live = trans._n('%1 run', '%1 runs', this._platform.liveRuns);
    const left = quotaLeft(me, trans);
    return (
      <button
        title={[live, ...left, trans.__('Open the AIaaS panel')].join('\n')}
        onClick={this._open}
      >
        {[`AIaaS: ${live}`, ...left.slice(0, 1)].join(' · ')}
      </button>
    );
  }
}
