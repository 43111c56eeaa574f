import {
  ILabShell,
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import {
  IEditorExtensionRegistry,
  IEditorLanguageRegistry
} from '@jupyterlab/codemirror';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { keepCellRuns } from './cellRuns';
import { addPanel } from './commands';
import { ending } from './endingWatch';
import { colourMagics } from './magicColours';
import { IPlatform, Platform } from './platform';
import { MIME_TYPE, RunOutput } from './runOutput';
import { IRuns, Runs } from './runs';
import { Service } from './service';
import { Settings } from './settings';

/** As its settings' file is called. */
const PANEL = '@aiaas-hub/labextension:panel';

const runs: JupyterFrontEndPlugin<IRuns> = {
  id: '@aiaas-hub/labextension:runs',
  description: 'Follows runs through the notebook server.',
  autoStart: true,
  provides: IRuns,
  activate: (app: JupyterFrontEnd) =>
    new Runs(new Service(app.serviceManager.serverSettings))
};

const runOutput: JupyterFrontEndPlugin<void> = {
  id: '@aiaas-hub/labextension:run-output',
  description: 'Shows a run in a cell, live.',
  autoStart: true,
  requires: [IRuns, IRenderMimeRegistry],
  optional: [ITranslator],
  activate: (
    _app: JupyterFrontEnd,
    runs: IRuns,
    rendermime: IRenderMimeRegistry,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('aiaas_hub');
    rendermime.addFactory({
      // It shows nothing of an untrusted notebook but the run that the service knows by the id.
      safe: true,
      mimeTypes: [MIME_TYPE],
      // Before text/html, which is the same run as it was when it was saved.
      defaultRank: 10,
      createRenderer: () => new RunOutput(runs, rendermime, trans)
    });
  }
};

const cellRuns: JupyterFrontEndPlugin<void> = {
  id: '@aiaas-hub/labextension:cell-runs',
  description: "Keeps a run's id in its cell, and shows it again.",
  autoStart: true,
  requires: [IRuns, INotebookTracker],
  activate: (_app: JupyterFrontEnd, runs: IRuns, notebooks: INotebookTracker) =>
    keepCellRuns(notebooks, runs)
};

const magics: JupyterFrontEndPlugin<void> = {
  id: '@aiaas-hub/labextension:magics',
  description: 'Colours lines of %aiaas, and the SQL of %%aiaas sql.',
  autoStart: true,
  requires: [IEditorExtensionRegistry, IEditorLanguageRegistry],
  activate: (
    _app: JupyterFrontEnd,
    extensions: IEditorExtensionRegistry,
    languages: IEditorLanguageRegistry
  ) => colourMagics(extensions, languages)
};

const platform: JupyterFrontEndPlugin<Platform> = {
  id: '@aiaas-hub/labextension:platform',
  description: 'Knows the lists of the platform, and which runs go on.',
  autoStart: true,
  requires: [IRuns],
  provides: IPlatform,
  activate: (_app: JupyterFrontEnd, runs: IRuns) =>
    new Platform(runs.service, runs.heard)
};

const panel: JupyterFrontEndPlugin<void> = {
  id: PANEL,
  description: 'Shows datasets, runs, models and endpoints.',
  autoStart: true,
  requires: [IRuns, IPlatform, IRenderMimeRegistry],
  optional: [
    ITranslator,
    INotebookTracker,
    ICommandPalette,
    ILauncher,
    ILayoutRestorer,
    IStatusBar,
    ILabShell,
    ISettingRegistry,
    IEditorLanguageRegistry
  ],
  activate: (
    app: JupyterFrontEnd,
    runs: IRuns,
    platform: Platform,
    rendermime: IRenderMimeRegistry,
    translator: ITranslator | null,
    notebooks: INotebookTracker | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    statusBar: IStatusBar | null,
    labShell: ILabShell | null,
    registry: ISettingRegistry | null,
    languages: IEditorLanguageRegistry | null
  ) => {
    const settings = new Settings();
    void settings.follow(registry, PANEL);
    addPanel({
      app,
      platform,
      runs,
      rendermime,
      languages,
      trans: (translator ?? nullTranslator).load('aiaas_hub'),
      notebooks,
      palette,
      launcher,
      restorer,
      statusBar,
      settings,
      viewArea: labShell ? 'main' : 'right'
    });
  }
};

export { IPlatform } from './platform';
export { IRuns } from './runs';

export default [runs, runOutput, cellRuns, magics, platform, panel, ending];
