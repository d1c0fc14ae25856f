const NEEDED = [20, 19] as const

/** Ends the process on a Node too old to load the rest, with a sentence instead of a syntax error. */
export function refuseOldNode(version: string = process.versions.node): void {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return
  process.stderr.write(
    `sallyport: this is Node ${version}, and Sallyport needs ${NEEDED.join('.')} or newer; install it from https://nodejs.org\n`,
  )
  process.exit(1)
}
