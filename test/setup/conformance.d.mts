/** Where the suite is kept. */
export const CONFORMANCE_DIR: string
/** Fetches the suite when it is not there yet. Returns whether it is there. */
export function hasConformance(): boolean
