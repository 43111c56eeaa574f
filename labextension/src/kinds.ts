/** The four kinds of things that the panel lists: how a row reads, and what is typed for it. */

import { TranslationBundle } from '@jupyterlab/translation';

import * as code from './code';
import { digits } from './curves';
import { Listing } from './listing';
import { plain } from './logTail';
import { Platform } from './platform';
import { ago, count, size } from './readable';
import { Dataset, Endpoint, isOver, Model, Run } from './wire';

export type KindId = 'datasets' | 'runs' | 'models' | 'endpoints';

/** What opens a view again: a run by its id, all else by owner and name. */
export interface Thing {
  kind: KindId;
  owner: string;
  /** Or a run's id. */
  name: string;
}

export interface Row {
  thing: Thing;
  label: string;
  detail: string;
  /** A word that has a colour. */
  state: string;
  /** Of a cell that uses it. */
  code: string;
}

export interface Kind<T> {
  id: KindId;
  title: string;
  /** What one types into the search box. */
  hint: string;
  empty: string;
  /** The first thing to type, where there is nothing yet. */
  emptyCode: string;
  listing: Listing<T>;
  row(item: T): Row;
}

export function kinds(
  platform: Platform,
  trans: TranslationBundle
): Kind<unknown>[] {
  const me = (): string | null => platform.me?.user ?? null;
  const datasets: Kind<Dataset> = {
    id: 'datasets',
    title: trans.__('Datasets'),
    hint: trans.__('Search name, column, tag, owner'),
    empty: trans.__('No datasets yet. Put a DataFrame there from a notebook:'),
    emptyCode: code.PUT,
    listing: platform.datasets,
    row: one => {
      const ref = code.reference(one, me());
      const { latest } = one;
      return {
        thing: { kind: 'datasets', owner: one.owner, name: one.name },
        label: plain(ref),
        detail: [
          trans.__('v%1', latest.version),
          trans.__('%1 rows', count(latest.rows)),
          size(latest.size)
        ].join(' · '),
        state: '',
        code: code.load(ref, one.name)
      };
    }
  };
  const runs: Kind<Run> = {
    id: 'runs',
    title: trans.__('Runs'),
    hint: trans.__('Search name, id, state'),
    empty: trans.__('No runs yet. Begin a cell that defines train(ctx) with:'),
    emptyCode: '%%aiaas train --name my-first',
    listing: platform.runs,
    row: one => ({
      thing: { kind: 'runs', owner: one.owner, name: one.id },
      label: plain(one.name),
      detail: [
        ago(one.created_at, trans),
        ...(one.progress && !isOver(one)
          ? [
              one.progress.total === null
                ? trans.__('step %1', count(one.progress.step))
                : trans.__(
                    'step %1 of %2',
                    count(one.progress.step),
                    count(one.progress.total)
                  )
            ]
          : []),
        one.id
      ].join(' · '),
      state: one.state,
      code: code.attach(one.id)
    })
  };
  const models: Kind<Model> = {
    id: 'models',
    title: trans.__('Models'),
    hint: trans.__('Search name, alias'),
    empty: trans.__('No models yet. A run hands one over, as this one does:'),
    emptyCode: code.EXAMPLE,
    listing: platform.models,
    row: one => ({
      thing: { kind: 'models', owner: one.owner, name: one.name },
      label: plain(code.reference(one, me())),
      detail: [
        trans.__('v%1', one.latest.version),
        ...Object.entries(one.aliases)
          .slice(0, 3)
          .map(([alias, version]) => `${plain(alias)}: v${version}`),
        ago(one.updated_at, trans)
      ].join(' · '),
      state: '',
      code: code.publishModel(one.name, code.reference(one, me()))
    })
  };
  const endpoints: Kind<Endpoint> = {
    id: 'endpoints',
    title: trans.__('Endpoints'),
    hint: trans.__('Search name, state'),
    empty: trans.__('No endpoints yet. Publish the model of a run:'),
    emptyCode: '%aiaas publish my-endpoint --run RUN',
    listing: platform.endpoints,
    row: one => ({
      thing: { kind: 'endpoints', owner: one.owner, name: one.name },
      label: plain(code.reference(one, me())),
      detail: shares(one.traffic, trans),
      state: one.state,
      code: code.predict(code.reference(one, me()))
    })
  };
  return [datasets, runs, models, endpoints] as Kind<unknown>[];
}

/** Who gets which part of the requests. */
export function shares(
  traffic: Record<string, number>,
  trans: TranslationBundle
): string {
  const parts = Object.entries(traffic)
    .filter(([, percent]) => percent > 0)
    .map(([version, percent]) =>
      trans.__('v%1 %2 %', version, digits(percent))
    );
  return parts.length ? parts.join(' · ') : trans.__('no traffic');
}
