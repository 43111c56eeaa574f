/** Main-area views: one for each thing that is looked at. */

import { MainAreaWidget, ReactWidget } from '@jupyterlab/apputils';
import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import { IRenderMimeRegistry, MimeModel } from '@jupyterlab/rendermime';
import { TranslationBundle } from '@jupyterlab/translation';
import { Message } from '@lumino/messaging';
import { Panel } from '@lumino/widgets';
import * as React from 'react';

import { Actions } from './actions';
import { DatasetView } from './datasetView';
import { EndpointView } from './endpointView';
import { aiaasIcon } from './icon';
import { JupyterRendering } from './jupyterRendering';
import { KindId, Thing } from './kinds';
import { plain } from './logTail';
import { ModelView } from './modelView';
import { Platform } from './platform';
import { Renderings } from './rendering';
import { RunFacts } from './runFacts';
import { MIME_TYPE, RunOutput } from './runOutput';
import { IRuns } from './runs';
import { ViewProps } from './viewParts';

const VIEWS: Record<KindId, (props: ViewProps) => JSX.Element> = {
  datasets: DatasetView,
  runs: RunFacts,
  models: ModelView,
  endpoints: EndpointView
};

export interface ViewParts {
  platform: Platform;
  runs: IRuns;
  rendermime: IRenderMimeRegistry;
  languages: IEditorLanguageRegistry | null;
  actions: Actions;
  trans: TranslationBundle;
}

export class ThingView extends MainAreaWidget<Panel> {
  constructor(
    readonly thing: Thing,
    parts: ViewParts
  ) {
    const content = new Panel();
    super({ content });
    const { trans } = parts;
    this.id = viewId(thing);
    this.title.label = plain(thing.name);
    this.title.caption = plain(caption(thing, trans));
    this.title.icon = aiaasIcon;
    this.title.closable = true;
    content.addClass('jp-aiaas-view');
    content.node.setAttribute('role', 'region');
    content.node.setAttribute('aria-label', this.title.caption);
    this.toolbar.hide();
    content.addWidget(new ViewBody(thing, parts));
    if (thing.kind === 'runs') {
      content.addWidget(runOutput(thing.name, parts));
    }
  }
}

export function viewId(thing: Thing): string {
  return `aiaas-${thing.kind}-${thing.owner}-${thing.name}`;
}

function caption(thing: Thing, trans: TranslationBundle): string {
  switch (thing.kind) {
    case 'datasets':
      return trans.__('Dataset %1 of %2', thing.name, thing.owner);
    case 'runs':
      return trans.__('View of run %1', thing.name);
    case 'models':
      return trans.__('Model %1 of %2', thing.name, thing.owner);
    case 'endpoints':
      return trans.__('Endpoint %1 of %2', thing.name, thing.owner);
  }
}

/** The run as a cell shows it: it looks itself whether it is in sight. */
function runOutput(run: string, parts: ViewParts): RunOutput {
  const output = new RunOutput(parts.runs, parts.rendermime, parts.trans);
  void output.renderModel(
    new MimeModel({ data: { [MIME_TYPE]: { run, version: 1 } } })
  );
  return output;
}

class ViewBody extends ReactWidget {
  constructor(
    private readonly _thing: Thing,
    private readonly _parts: ViewParts
  ) {
    super();
    this.addClass('jp-aiaas-view-body');
    this._rendering = new JupyterRendering(_parts.rendermime, _parts.languages);
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    this.update();
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this.update();
  }

  protected override onAfterHide(msg: Message): void {
    super.onAfterHide(msg);
    this.update();
  }

  protected override render(): JSX.Element {
    const { platform, actions, trans } = this._parts;
    const View = VIEWS[this._thing.kind];
    return (
      <Renderings.Provider value={this._rendering}>
        <h2>{plain(caption(this._thing, trans))}</h2>
        <View
          thing={this._thing}
          platform={platform}
          actions={actions}
          trans={trans}
          isShown={this.isVisible}
        />
      </Renderings.Provider>
    );
  }

  private readonly _rendering: JupyterRendering;
}
