import { quoteWord } from './characters.ts'

/** A shell that is told to read its commands from standard input, and nothing else. */
const READS_SCRIPT = /^\s*(?:\/usr)?(?:\/bin\/)?(bash|sh|dash)(?:\s+-s)?\s*$/u

/** Which shell a command line starts to read a script from its input, or `undefined` when it does not. */
export function scriptShell(command: string): 'bash' | 'sh' | 'dash' | undefined {
  const [, shell] = READS_SCRIPT.exec(command) ?? []
  return shell === 'bash' || shell === 'sh' || shell === 'dash' ? shell : undefined
}

/** The same script as a command line, so that it is judged, and then run whole. */
export function wrapScript(shell: 'bash' | 'sh' | 'dash', script: string): string {
  return shell === 'bash' ? script : `${shell} -c ${quoteWord(script)}`
}
