/** What somebody would type: code for a cell, made of names that anybody may have chosen. */

const PLAIN = /^[A-Za-z0-9_./@:=+-]+$/;

/** A word of a magic's line, as a shell would be told of it. */
export function word(text: string): string {
  // No name goes on to the next line, where it would be code, or turns the direction of its own.
  // eslint-disable-next-line no-control-regex
  const one = text.replace(
    /[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g,
    ' '
  );
  if (PLAIN.test(one)) {
    return one;
  }
  // In a magic's line braces are filled in from the notebook, unless they are doubled.
  const kept = one.replace(/[{}]/g, brace => brace + brace);
  return `'${kept.replace(/'/g, `'"'"'`)}'`;
}

/** `name` of mine, `owner/name` of somebody else's. */
export function reference(
  thing: { owner: string; name: string },
  me: string | null
): string {
  return thing.owner === me ? thing.name : `${thing.owner}/${thing.name}`;
}

/** A Python name like the thing's. */
export function variable(name: string): string {
  const made = name.replace(/[^A-Za-z0-9_]+/g, '_');
  return /^[A-Za-z_]/.test(made) ? made : `_${made}`;
}

export const load = (dataset: string, name: string): string =>
  `%aiaas load ${word(dataset)} --into ${variable(name)}`;

export const preview = (dataset: string): string =>
  `%aiaas preview ${word(dataset)}`;

export const profile = (dataset: string): string =>
  `%aiaas profile ${word(dataset)}`;

export const train = (dataset: string, name: string): string =>
  `%%aiaas train --name ${word(name)} --dataset ${word(dataset)}
def train(ctx):
    frame = ctx.dataset().to_pandas()
    ctx.report(step=1, rows=len(frame))`;

const EXAMPLE_NAME = 'my-model';

/** A run of a few seconds that hands over a model: whole, as it goes into a new cell. */
export const EXAMPLE = `%%aiaas train --name ${EXAMPLE_NAME}
import torch

def train(ctx):
    model = torch.nn.Linear(2, 1)
    ctx.report(step=1, loss=0.5)
    ctx.save_model(model.eval(), example_input=torch.zeros(4, 2))`;

export const attach = (run: string): string => `%aiaas attach ${word(run)}`;

/** A run's source: its cell's first line, which was no Python, was kept as a comment. */
export const asTyped = (source: string): string =>
  source.trimEnd().replace(/^# (?=%%aiaas\s)/, '');

export const logs = (run: string): string => `%aiaas logs ${word(run)}`;

export const resume = (run: string): string => `%aiaas resume ${word(run)}`;

export const publishRun = (name: string, run: string): string =>
  `%aiaas publish ${word(name)} --run ${word(run)}`;

export const publishModel = (name: string, model: string): string =>
  `%aiaas publish ${word(name)} --model ${word(model)}`;

export const deploy = (
  newest: { owner: string; name: string } | undefined,
  me: string | null
): string =>
  newest
    ? publishModel(newest.name, reference(newest, me))
    : publishModel(EXAMPLE_NAME, EXAMPLE_NAME);

export const PUT = 'aiaas.datasets.put("my-data", df)';

export const model = (name: string): string => `%aiaas model ${word(name)}`;

export const predict = (endpoint: string): string =>
  `%aiaas predict ${word(endpoint)} x`;

/** Code as it goes in between what stands before and after the cursor: a magic has its own line. */
export function placed(code: string, before: string, after: string): string {
  return [before.trim() ? '\n' : '', code, after.trim() ? '\n' : ''].join('');
}
