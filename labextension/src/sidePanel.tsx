/** The panel at the side: what there is on the platform, and how to get there. */

import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { Actions } from './actions';
import { aiaasIcon } from './icon';
import { Kind, kinds } from './kinds';
import { PanelView } from './panelView';
import { Platform } from './platform';

const PALETTE_CLOSES_MS = 150;

export class SidePanel extends ReactWidget {
  constructor(
    private readonly _platform: Platform,
    private readonly _actions: Actions,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.id = 'aiaas-panel';
    this.addClass('jp-aiaas-panel');
    this.title.icon = aiaasIcon;
    this.title.caption = _trans.__('AIaaS Hub');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', _trans.__('AIaaS Hub'));
    this._kinds = kinds(_platform, _trans);
    _platform.changed.connect(this.update, this);
    this._kinds.forEach(({ listing }) =>
      listing.changed.connect(this.update, this)
    );
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    if (this.isVisible) {
      void this._platform.show();
    }
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    void this._platform.show();
  }

  protected override onAfterHide(msg: Message): void {
    this._platform.hide();
    super.onAfterHide(msg);
  }

  /** For whoever came here by keyboard. */
  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    this._focus();
    // As the command palette closes, it gives the focus back to the notebook in front.
    window.setTimeout(() => this._focus(), PALETTE_CLOSES_MS);
  }

  private _focus(): void {
    if (this.isVisible && !this.node.contains(document.activeElement)) {
      this.node.querySelector<HTMLElement>('button')?.focus();
    }
  }

  protected override render(): JSX.Element {
    return (
      <PanelView
        platform={this._platform}
        kinds={this._kinds}
        actions={this._actions}
        trans={this._trans}
      />
    );
  }

  private readonly _kinds: Kind<unknown>[];
}
