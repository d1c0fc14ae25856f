/**
 * What an approver is shown of an SSH call besides its text: every command it can run with its words as the remote shell
 * will hand them over, the account of each, and the paths it writes. Made from the plan; nothing is asked at the target.
 *
 * @packageDocumentation
 */
import type { Part } from '../../core/action.ts'
import type { Preview, PreviewSection } from '../../core/preview.ts'
import { quoteWord } from './characters.ts'
import type { SshPlan } from './plan.ts'

/** Verbs that change a file, with how an approver reads them. */
const WRITES: Readonly<Record<string, string>> = {
  'ssh.write': 'written by a redirection',
  'ssh.sftp.write': 'written',
  'ssh.sftp.remove': 'removed',
  'ssh.sftp.rename': 'renamed',
  'ssh.sftp.mkdir': 'made',
  'ssh.sftp.setstat': 'changed in mode, owner, times or length',
  'ssh.sftp.link': 'linked',
}

/** Commands that only the shell itself carries out change nothing an approver must see line by line. */
const RUNS = new Set(['ssh.exec', 'ssh.code', 'ssh.wrap'])

/** Says what a planned call would do. No guard: what a command finds when it runs cannot be tried without running it. */
export function previewOf({ action, request }: SshPlan): Preview {
  const { parts } = action
  const sections = [
    section('Runs, by account', parts.filter(({ verb }) => RUNS.has(verb)).map(runLine)),
    section('Changes files', parts.filter(({ verb }) => Object.hasOwn(WRITES, verb)).map(writeLine)),
    section(
      'Reads files',
      parts.filter(({ verb }) => /^ssh\.(?:sftp\.)?(?:read|list|stat)$/u.test(verb)).map(pathLine),
    ),
    section('Connects', parts.filter(({ verb }) => verb.startsWith('ssh.forward')).map(wordsOf)),
    section('Input', request.kind === 'exec' && request.stdin !== undefined ? [inputLine(request.stdin)] : []),
    section('Also', parts.flatMap(alsoLine)),
  ].filter((each) => each !== undefined)
  return {
    sections,
    ...(parts.some(({ verb }) => verb === 'ssh.unknown') && {
      missing: 'Not all of the command is understood, so it may do more than is listed here.',
    }),
  }
}

function section(title: string, lines: readonly string[]): PreviewSection | undefined {
  return lines.length === 0 ? undefined : { title, text: lines.join('\n') }
}

function runLine(part: Part): string {
  const via = part.attributes['via']
  const around = Array.isArray(via) && via.length > 0 ? ` (behind ${via.join(', ')})` : ''
  const what = part.verb === 'ssh.code' ? ' (may run whatever its words or files say)' : ''
  return `${whose(part)}: ${wordsOf(part)}${around}${what}`
}

/** Word by word, each quoted; what only the target knows stands as it is written, and is named. */
function wordsOf({ resource }: Part): string {
  if (resource.type !== 'argv') return ''
  const { argv, dynamicFrom } = resource
  const words = argv.map((word, index) =>
    dynamicFrom !== undefined && index >= dynamicFrom ? `‹${word}›` : quoteWord(word),
  )
  if (dynamicFrom !== undefined && dynamicFrom >= argv.length) words.push('‹more words›')
  return words.join(' ')
}

function writeLine(part: Part): string {
  return `${whose(part)}: ${pathOf(part)} ${WRITES[part.verb] ?? ''}`
}

function pathLine(part: Part): string {
  return `${whose(part)}: ${pathOf(part)}`
}

function pathOf({ resource }: Part): string {
  return resource.type === 'file' ? quoteWord(resource.path) : ''
}

function inputLine(stdin: string): string {
  return `${Buffer.byteLength(stdin)} bytes, which stand with the request`
}

function alsoLine({ verb, attributes }: Part): readonly string[] {
  if (verb === 'ssh.detach') return ['leaves something running when the command has ended']
  if (verb !== 'ssh.unknown') return []
  const reasons = attributes['reasons']
  return Array.isArray(reasons) ? reasons.filter((reason) => typeof reason === 'string') : []
}

function whose({ account }: Part): string {
  return account?.name ?? 'the target’s account'
}
