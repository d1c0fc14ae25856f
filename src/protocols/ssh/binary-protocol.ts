import type { Part } from '../../core/action.ts'
import { programName } from './argv.ts'

/** Programs that speak a binary protocol whatever their words are. */
const ALWAYS = new Set([
  'sftp-server',
  'git-upload-pack',
  'git-receive-pack',
  'git-upload-archive',
  'borg',
  'mosh-server',
])

/** Returns the first program among these that speaks a binary protocol over its input and output. */
export function binaryProtocol(parts: readonly Part[]): string | undefined {
  for (const { resource } of parts) {
    if (resource.type !== 'argv') continue
    const [word = '', ...words] = resource.argv
    const name = programName(word)
    if (ALWAYS.has(name)) return name
    // `-f` and `-t` are how one scp tells the other to send or to receive; they may be joined with other letters.
    if (name === 'scp' && words.some((option) => /^-[a-zA-Z]*[ft]/u.test(option))) return name
    if (name === 'rsync' && words.includes('--server')) return name
  }
  return undefined
}
