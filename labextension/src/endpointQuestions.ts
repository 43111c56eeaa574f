/** What is asked back before somebody's requests go elsewhere. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';

import { shares } from './kinds';
import { plain } from './logTail';
import { canary, Endpoint } from './wire';

export type Change = 'promote' | 'rollback' | 'retire';

interface Question {
  title: string;
  body: string;
  button: string;
  /** Whether versions that answer now answer nobody any more. */
  isWarned: boolean;
}

/** Nothing of this is done by one click: somebody's requests are at stake. */
export function isConfirmed(
  what: Change,
  now: Endpoint,
  trans: TranslationBundle
): Promise<boolean> {
  const name = plain(now.name);
  const questions: Record<Change, Question> = {
    promote: {
      title: trans.__('Promote the canary of %1?', name),
      body: trans.__(
        'Version %1 gets all requests at once.',
        canary(now)?.version ?? ''
      ),
      button: trans.__('Promote it'),
      isWarned: false
    },
    rollback: {
      title: trans.__('Roll %1 back?', name),
      body: trans.__(
        'Its requests go again, from now on: %1.',
        shares(now.former, trans)
      ),
      button: trans.__('Roll it back'),
      isWarned: true
    },
    retire: {
      title: trans.__('Retire %1?', name),
      body: trans.__(
        'It answers nobody any more. Its models stay, and may be published again.'
      ),
      button: trans.__('Retire it'),
      isWarned: true
    }
  };
  return isAgreed(questions[what], trans);
}

/** At its ends the slider promotes or rolls back, in effect; between them all are answered on. */
export async function isShareConfirmed(
  traffic: Record<string, number>,
  now: Endpoint,
  trans: TranslationBundle
): Promise<boolean> {
  const whole = Object.keys(traffic).find(version => traffic[version] === 100);
  if (whole === undefined) {
    return true;
  }
  const question = {
    title: trans.__('Set the traffic of %1?', plain(now.name)),
    body: trans.__('Version %1 gets all requests at once.', whole),
    button: trans.__('Set the traffic'),
    isWarned: true
  };
  return isAgreed(question, trans);
}

async function isAgreed(
  { title, body, button, isWarned }: Question,
  trans: TranslationBundle
): Promise<boolean> {
  const answer = await showDialog({
    title,
    body,
    defaultButton: 0,
    buttons: [
      Dialog.cancelButton({ label: trans.__('Leave it') }),
      isWarned
        ? Dialog.warnButton({ label: button })
        : Dialog.okButton({ label: button })
    ]
  });
  return answer.button.accept;
}
