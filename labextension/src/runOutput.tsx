/** A cell's output that shows a run, live for as long as it can be seen. */

import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import { IRenderMime, IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { TranslationBundle } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import { Panel, Widget } from '@lumino/widgets';
import * as React from 'react';

import { plain } from './logTail';
import { IRuns, isRunId, RunModel } from './runs';
import { RunView } from './runView';
import { isOver } from './wire';

/** `{"run": id, "version": 1}` */
export const MIME_TYPE = 'application/vnd.aiaas.run+json';

// Scrolling by, or a look at another tab, need not break the line.
const LEAVE_MS = 5_000;
const TICK_MS = 1_000;

/** The run's id in an output's data, if it is one of ours that we understand. */
export function runOf(data: unknown): string | null {
  const shown = (data as Record<string, unknown> | null)?.[MIME_TYPE] as
    { run?: unknown } | undefined;
  return isRunId(shown?.run) ? shown.run : null;
}

export class RunOutput extends Panel implements IRenderMime.IRenderer {
  constructor(
    private readonly _runs: IRuns,
    private readonly _rendermime: IRenderMimeRegistry,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-aiaas-output');
    this._observer = new IntersectionObserver(entries => {
      this._inView = entries[entries.length - 1]?.isIntersecting ?? false;
      this._look();
    });
  }

  /** Called again each time the kernel updates the output: mostly of the same run. */
  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._saved = model;
    const id = runOf(model.data);
    if (this._live && id === this._live.model.id) {
      await this._showSaved();
      return;
    }
    this._live?.model.changed.disconnect(this._onChanged, this);
    this._live?.dispose();
    this._live = null;
    if (id !== null) {
      this._live = new LiveRun(this._runs.get(id), this._trans);
      this._live.model.changed.connect(this._onChanged, this);
      this.addWidget(this._live);
      this._look();
    }
    await this._showSaved();
  }

  override dispose(): void {
    this._observer.disconnect();
    window.clearTimeout(this._leaving);
    super.dispose();
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    document.addEventListener('visibilitychange', this._look);
    this._observer.observe(this.node);
  }

  protected override onBeforeDetach(msg: Message): void {
    document.removeEventListener('visibilitychange', this._look);
    this._observer.unobserve(this.node);
    this._inView = false;
    this._look();
    super.onBeforeDetach(msg);
  }

  private readonly _look = (): void => {
    window.clearTimeout(this._leaving);
    if (this._inView && !document.hidden) {
      this._live?.watch();
    } else {
      this._leaving = window.setTimeout(() => this._live?.leave(), LEAVE_MS);
    }
  };

  private _onChanged(): void {
    void this._showSaved();
  }

  /** While the service has not told of the run, or cannot: what was saved with the notebook. */
  private async _showSaved(): Promise<void> {
    const html = this._saved?.data['text/html'];
    if (this._live?.model.run || html === undefined) {
      this._picture?.dispose();
      this._picture = null;
      return;
    }
    if (!this._picture) {
      const renderer = this._rendermime.createRenderer('text/html');
      this._picture = renderer;
      this.addWidget(renderer);
      await renderer.renderModel(this._saved!);
    }
  }

  private readonly _observer: IntersectionObserver;
  private _inView = false;
  private _leaving = 0;
  private _live: LiveRun | null = null;
  private _saved: IRenderMime.IMimeModel | null = null;
  private _picture: Widget | null = null;
}

class LiveRun extends ReactWidget {
  constructor(
    readonly model: RunModel,
    private readonly _trans: TranslationBundle
  ) {
    super();
    model.changed.connect(this._onChanged, this);
  }

  watch(): void {
    if (this._watching || this.isDisposed) {
      return;
    }
    this._watching = this.model.watch();
    // Between two reports of the run the clock goes on.
    this._clock = window.setInterval(() => {
      if (this.model.run && !this.model.isOver) {
        this.update();
      }
    }, TICK_MS);
    this.update();
  }

  leave(): void {
    this._watching?.dispose();
    this._watching = null;
    window.clearInterval(this._clock);
  }

  override dispose(): void {
    this.leave();
    this.model.changed.disconnect(this._onChanged, this);
    super.dispose();
  }

  protected override render(): JSX.Element {
    const { model } = this;
    if (model.run) {
      return (
        <RunView
          model={model}
          run={model.run}
          trans={this._trans}
          cancel={() => void this._cancel()}
        />
      );
    }
    const { trouble } = model;
    return (
      <div className="jp-aiaas-muted" role="status">
        {trouble
          ? this._trans.__(
              'Run %1 is not shown live. %2 %3',
              model.id,
              plain(trouble.message),
              plain(trouble.remedy)
            )
          : this._trans.__('Run %1 …', model.id)}
      </div>
    );
  }

  private async _cancel(): Promise<void> {
    const { run } = this.model;
    if (!run || isOver(run)) {
      return;
    }
    const trans = this._trans;
    const answer = await showDialog({
      title: trans.__('Cancel run %1?', run.id),
      body: trans.__(
        'Training of %1 stops. What it has reported and saved so far is kept.',
        plain(run.name)
      ),
      buttons: [
        Dialog.cancelButton({ label: trans.__('Let it run') }),
        Dialog.warnButton({ label: trans.__('Cancel the run') })
      ]
    });
    if (!answer.button.accept) {
      return;
    }
    try {
      await this.model.cancel();
    } catch (error) {
      await showDialog({
        title: trans.__('Run %1 was not cancelled', run.id),
        body: plain(String((error as Error).message)),
        buttons: [Dialog.okButton()]
      });
    }
  }

  private _onChanged(): void {
    this.update();
  }

  private _watching: IDisposable | null = null;
  private _clock = 0;
}
