import type { Account, Part } from '../../core/action.ts'
import { hiddenCharacter } from './characters.ts'
import { unknownPart } from './findings.ts'
import type { SftpPayload } from './payload.ts'

/** The verb of each operation: some differ only in how they are carried out. */
const VERBS: Readonly<Record<SftpPayload['operation'], string>> = {
  stat: 'stat',
  lstat: 'stat',
  readlink: 'stat',
  list: 'list',
  read: 'read',
  write: 'write',
  remove: 'remove',
  rmdir: 'remove',
  rename: 'rename',
  mkdir: 'mkdir',
  setstat: 'setstat',
  link: 'link',
}

/** What a file operation does, and to which paths. */
export function sftpParts({ operation, path, to, attributes }: SftpPayload, account: Account): readonly Part[] {
  const paths = to === undefined ? [path] : [path, to]
  const part = (file: string): Part => ({
    verb: `ssh.sftp.${VERBS[operation]}`,
    resource: { type: 'file', path: file },
    attributes: { user: account.name, operation, mode: attributes?.mode ?? -1 },
    account,
  })
  const hidden = paths.map(hiddenCharacter).find((found) => found !== undefined)
  const needsTwo = operation === 'rename' || operation === 'link'
  const unknown = [
    ...(hidden === undefined ? [] : [`A path holds a character nobody can see (${hidden}).`]),
    ...(paths.every(isPlainPath) ? [] : ['A path is not absolute, or climbs with `..`.']),
    ...(needsTwo === (to !== undefined) ? [] : ['It names more or fewer paths than it needs.']),
  ]
  return [...paths.map(part), ...(unknown.length > 0 ? [unknownPart(unknown)] : [])]
}

/** Absolute and without segments that another reader drops or climbs with. The root itself is plain. */
export function isPlainPath(path: string): boolean {
  if (path === '/') return true
  return (
    path.startsWith('/') &&
    path
      .slice(1)
      .split('/')
      .every((segment) => !['', '.', '..'].includes(segment))
  )
}
