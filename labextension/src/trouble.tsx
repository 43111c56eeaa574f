/** What went wrong, what to do, and a button to try again. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { plain } from './logTail';
import { ServiceError } from './serviceError';

export function Trouble(props: {
  trouble: ServiceError;
  again: () => void;
  trans: TranslationBundle;
}): JSX.Element {
  const { trouble, trans } = props;
  return (
    <div className="jp-aiaas-error" role="alert">
      <div>{plain(trouble.message)}</div>
      <div>{plain(trouble.remedy)}</div>
      <button className="jp-mod-styled jp-mod-minimal" onClick={props.again}>
        {trans.__('Try again')}
      </button>
    </div>
  );
}
