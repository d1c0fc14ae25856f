import { expansions, partsExpand } from './expansion.ts'
import type { Context, Findings } from './findings.ts'
import type { Redirection } from './syntax.ts'
import { resolveWord } from './word.ts'

/** Finds what a redirection reads and writes. */
export function redirect(node: Redirection, context: Context, findings: Findings): void {
  if (node.descriptor?.type === 'FileDescriptorVariable') {
    return findings.unknown('It redirects to a descriptor in a variable.')
  }
  if ((node.descriptor?.value ?? 0) > 9) findings.bashOnly('descriptors above 9', context)
  if (node.type === 'HereDoc') {
    // Bash writes a substitution out and reads it again, and what it writes is not always what it read.
    if (context.isInside) findings.unknown('A here-document stands in a substitution.')
    if (node.closing === undefined) findings.unknown('A here-document does not end.')
    return partsExpand(node.body.parts ?? [], context, findings)
  }
  if (node.target === undefined) return findings.unknown('A redirection has no target.')
  expansions(node.target, context, findings)
  if (node.type === 'HereString') return findings.bashOnly('<<<', context)
  const { value, isLiteral } = resolveWord(node.target)
  if (!isLiteral || value === '') return findings.unknown('It redirects to a path that is computed.')
  switch (node.operator) {
    case '<&':
    case '>&':
      // A digit or `-` only moves descriptors that are open already.
      if (/^(?:\d|-)$/u.test(node.target.text)) return
      findings.bashOnly(node.operator, context)
      if (node.operator === '<&' || node.descriptor !== undefined || /^\d/u.test(value) || value.endsWith('-')) {
        return findings.unknown('It moves descriptors in a way that is not understood.')
      }
      return file('ssh.write', value, context, findings)
    case '<':
      return file('ssh.read', value, context, findings)
    case '<>':
      file('ssh.read', value, context, findings)
      return file('ssh.write', value, context, findings)
    case '&>':
    case '&>>':
      findings.bashOnly(node.operator, context)
      return file('ssh.write', value, context, findings)
    case '>':
    case '>>':
    case '>|':
      return file('ssh.write', value, context, findings)
    default:
      return findings.unlisted(node)
  }
}

/** Paths bash, or the kernel, gives another meaning than that of a file. */
const DEVICE = /^\/+(?:dev\/+(?:tcp|udp|fd|stdin|stdout|stderr)|proc\/)/u

function file(verb: 'ssh.read' | 'ssh.write', path: string, context: Context, findings: Findings): void {
  if (path === '/dev/null') return
  if (path === '/dev/stdout' || path === '/dev/stderr') return
  if (DEVICE.test(path)) {
    return findings.unknown('It redirects to a path that stands for a connection, a descriptor or a process.')
  }
  findings.file(verb, path, context)
}
