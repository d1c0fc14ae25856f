import { SallyportError } from '../core/errors.ts'
import { logError } from '../telemetry/log-error.ts'
import { exitCodeOf } from './exit-code.ts'
import { printable } from './terminal.ts'

/** Whether faults come with their stack and cause, for who works on Sallyport itself. */
export function isDebugging(): boolean {
  const value = process.env['SALLYPORT_DEBUG']
  return value !== undefined && value !== '' && value !== '0'
}

/**
 * Tells a failure in one line (a list of mistakes takes one each), with a hint where there is one, and sets the exit
 * code. Never a stack, unless `SALLYPORT_DEBUG` asks for it.
 */
export function fail(error: unknown): void {
  const known = SallyportError.from(error)
  const [first = '', ...more] = messageOf(known, error).split('\n').map(printable)
  process.stderr.write(`sallyport: ${first}\n`)
  for (const line of more) process.stderr.write(`  ${line}\n`)
  if (known.facts.hint !== undefined) process.stderr.write(`  hint: ${printable(known.facts.hint)}\n`)
  if (isDebugging()) process.stderr.write(`${JSON.stringify(logError(error), undefined, 2)}\n`)
  process.exitCode = exitCodeOf(known.code)
}

/** The operator stands here, not an agent: what the system said of a file or a port is what needs fixing. */
function messageOf(known: SallyportError, error: unknown): string {
  if (known.code !== 'ERR_INTERNAL') return known.message
  if (error instanceof Error && 'code' in error && 'syscall' in error) {
    return `${String(error.syscall)} failed (${String(error.code)})${'path' in error ? `: ${String(error.path)}` : ''}`
  }
  return 'an internal fault; run it again with SALLYPORT_DEBUG=1 to see where'
}
