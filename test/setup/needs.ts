const present = process.env['SALLYPORT_CAPABILITIES']?.split(',')

/**
 * Whether this machine has what a test needs besides Node and npm, for `it.runIf(has('openssl'))`. `npm test` finds out
 * (see `capabilities.mjs`) and says what was skipped; a suite run by hand takes everything to be there.
 */
export function has(capability: string): boolean {
  return present === undefined || present.includes(capability)
}
