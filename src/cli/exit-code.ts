import type { ErrorCode } from '../core/errors.ts'

/** How the command line ends. Numbers are API: scripts test for them. */
export const EXIT = {
  ok: 0,
  /** Something failed that no other number names. */
  failed: 1,
  /** The command line itself was wrong. */
  usage: 2,
  /** Configuration or policy files are wrong. */
  invalid: 3,
  /** The gateway cannot be reached, or another process has its state directory. */
  unavailable: 4,
  /** The gateway does not know the token, or its bearer may not do this. */
  forbidden: 5,
  /** Checked and found wrong: a recording that was changed, a policy fixture that does not hold. */
  unsound: 6,
} as const

/** One of the numbers above. */
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** The number for an error. */
export function exitCodeOf(code: ErrorCode): ExitCode {
  switch (code) {
    case 'ERR_CONFIG_INVALID':
    case 'ERR_POLICY_INVALID':
      return EXIT.invalid
    case 'ERR_UPSTREAM_UNREACHABLE':
    case 'ERR_STATE_LOCKED':
    case 'ERR_SHUTTING_DOWN':
      return EXIT.unavailable
    case 'ERR_UNAUTHENTICATED':
    case 'ERR_FORBIDDEN':
      return EXIT.forbidden
    case 'ERR_RECORDING_INVALID':
      return EXIT.unsound
    default:
      return EXIT.failed
  }
}
