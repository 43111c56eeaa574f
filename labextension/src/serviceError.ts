/** A refusal, or silence: one sentence and what to do next. */
export class ServiceError extends Error {
  constructor(
    message: string,
    readonly remedy: string,
    /** Of the answer; 0 where there was none. */
    readonly status: number
  ) {
    super(message);
  }

  /** Asking again would not help. */
  get isFinal(): boolean {
    return this.status >= 400 && this.status < 500 && this.status !== 429;
  }
}

/** Whatever was thrown, as a refusal. */
export function asServiceError(error: unknown): ServiceError {
  return error instanceof ServiceError
    ? error
    : new ServiceError('The answer was not understood.', 'Try again.', 0);
}
