/** What the panel at the side shows. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Actions } from './actions';
import { Kind } from './kinds';
import { plain } from './logTail';
import { Platform } from './platform';
import { Section } from './section';
import { Trouble } from './trouble';

export function PanelView(props: {
  platform: Platform;
  kinds: Kind<unknown>[];
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { platform, trans } = props;
  return (
    <>
      <div className="jp-aiaas-panel-head">
        <h2>{trans.__('AIaaS Hub')}</h2>
        <span className="jp-aiaas-muted">
          {platform.me ? plain(platform.me.user) : ''}
        </span>
        <button
          className="jp-mod-styled jp-mod-minimal"
          onClick={() => void platform.refresh()}
        >
          {trans.__('Refresh')}
        </button>
      </div>
      {platform.trouble && (
        <Trouble
          trouble={platform.trouble}
          again={() => void platform.refresh()}
          trans={trans}
        />
      )}
      {!platform.trouble && !platform.me && (
        <div className="jp-aiaas-muted" role="status">
          {trans.__('Looking …')}
        </div>
      )}
      {platform.me &&
        !platform.trouble &&
        props.kinds.map(kind => (
          <Section
            key={kind.id}
            kind={kind}
            actions={props.actions}
            trans={trans}
          />
        ))}
    </>
  );
}
