import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readPolicyFiles } from '../../src/policy/load-files.ts'
import { formatProblems, type Problem } from '../../src/policy/problem.ts'
import { watchPolicies, type PolicySource, type WatchOptions } from '../../src/policy/watch.ts'
import { KNOWN, rules } from './kit.ts'

const READ = '{id: read, effect: allow, principals: ["*"], actions: [sql.select], resources: ["**"]}'
const DENY = '{id: stop, effect: deny, actions: [sql.select]}'

let directory = ''
const open: PolicySource[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sallyport-policies-'))
})
afterEach(async () => {
  for (const source of open.splice(0)) source.close()
  await rm(directory, { recursive: true, force: true })
})

const write = (name: string, text: string): Promise<void> => writeFile(join(directory, name), text)

async function start(more: Partial<WatchOptions> = {}): Promise<PolicySource> {
  const source = await watchPolicies({ directory, known: KNOWN, isWatching: false, ...more })
  open.push(source)
  return source
}

/** The next call of a listener, as a promise. */
function next<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}

describe('reading a directory', () => {
  it('takes *.yaml and *.yml at any depth, sets fixtures apart and leaves hidden files alone', async () => {
    await mkdir(join(directory, 'team'))
    await write('b.yaml', 'b')
    await write('a.yml', 'a')
    await write('a.test.yaml', 'fixture')
    await write('.#a.yaml', 'hidden')
    await write('notes.txt', 'no')
    await write('team/c.yaml', 'c')
    const found = await readPolicyFiles(directory)
    expect(found.files.map(({ path }) => path)).toEqual(['a.yml', 'b.yaml', 'team/c.yaml'])
    expect(found.fixtures.map(({ path }) => path)).toEqual(['a.test.yaml'])
    expect(found.problems).toEqual([])
  })

  it('reports a file that cannot be read instead of leaving it out', async () => {
    await symlink('nowhere', join(directory, 'dangling.yaml'))
    await writeFile(join(directory, 'latin.yaml'), Buffer.from([0x23, 0xe9]))
    const report = formatProblems((await readPolicyFiles(directory)).problems)
    expect(report).toContain('dangling.yaml:1:1: The file cannot be read: ENOENT.')
    expect(report).toContain('latin.yaml:1:1: The file cannot be read: it is not UTF-8.')
  })
})

describe('the policy in force', () => {
  it('C3: denies everything, and says so, while the directory is missing or empty', async () => {
    for (const path of [directory, join(directory, 'missing')]) {
      const warnings: Problem[] = []
      const source = await start({ directory: path, onWarnings: (list) => warnings.push(...list) })
      expect(source.current().rules).toEqual([])
      expect(formatProblems(warnings)).toMatch(/everything is denied|every call is denied/)
    }
  })

  it('does not start on policies that are not valid, and names them all', async () => {
    await write('a.yaml', 'rule: 1')
    await write('b.yaml', 'targets: [nowhere]\nrules: []')
    await expect(start()).rejects.toMatchObject({
      code: 'ERR_POLICY_INVALID',
      message: expect.stringMatching(/a\.yaml:1:1: [\s\S]*b\.yaml:1:11: /) as string,
    })
  })

  it('is swapped whole on reload, and stays when a file is bad, missing or empty', async () => {
    await write('a.yaml', rules(READ))
    const problems: Problem[] = []
    const seen: string[] = []
    const source = await start({
      onProblems: (list) => problems.push(...list),
      onPolicy: (policy) => seen.push(policy.version),
    })
    const good = source.current()
    for (const bad of ['rules: [', '', `${rules(READ)}mask: []`]) {
      await write('b.yaml', bad)
      expect(await source.reload()).toMatchObject({ isChanged: false })
      expect(source.current()).toBe(good)
    }
    expect(problems.length).toBeGreaterThanOrEqual(3)
    await write('b.yaml', rules(DENY))
    const reload = await source.reload()
    expect(reload).toMatchObject({ isChanged: true, problems: [] })
    expect(source.current()).toBe(reload.policy)
    expect(seen).toEqual([reload.policy.version])
    await rm(directory, { recursive: true })
    expect(await source.reload()).toMatchObject({ isChanged: false })
    expect(source.current()).toBe(reload.policy)
  })

  it('does not change when the files say the same again', async () => {
    await write('a.yaml', rules(READ))
    const source = await start({ onPolicy: () => expect.unreachable() })
    await write('a.yaml', `# a comment\n${rules(READ)}`)
    expect(await source.reload()).toMatchObject({ isChanged: false, problems: [] })
  })

  it('ends up with what the files say last, however many reloads run at once', async () => {
    await write('a.yaml', rules(READ))
    const source = await start()
    const running: Promise<unknown>[] = []
    for (let index = 0; index < 20; index++) {
      await write('a.yaml', rules(READ.replace('read', `read-${index}`)))
      running.push(source.reload())
    }
    await Promise.all(running)
    expect(source.current().rules.map(({ id }) => id)).toEqual(['read-19'])
  })
})

describe('watching', () => {
  it('says once what is probably not meant, and of policies that were never there not that they are gone', async () => {
    const warned: string[] = []
    const problems: string[] = []
    const taken = next<void>()
    const source = await start({
      directory: join(directory, 'missing'),
      isWatching: true,
      onWarnings: (list) => warned.push(formatProblems(list)),
      onProblems: (list) => problems.push(formatProblems(list)),
      // The look after the start, which sees what came between the first read and the first watch.
      onTaken: taken.resolve,
    })
    await taken.promise
    expect(warned).toEqual([expect.stringContaining('The policy directory is missing')])
    await source.reload()
    expect([warned.length, problems]).toEqual([2, []])
  })

  it('follows a file that is written, one that is renamed into place, and one in a new directory', async () => {
    await write('a.yaml', rules(READ))
    let wait = next<string>()
    const source = await start({
      isWatching: true,
      onPolicy: (policy) => wait.resolve(policy.rules.map(({ id }) => id).join()),
    })
    await write('a.yaml', rules(READ.replace('read', 'written')))
    expect(await wait.promise).toBe('written')
    wait = next()
    await write('.a.tmp', rules(READ.replace('read', 'renamed')))
    await rename(join(directory, '.a.tmp'), join(directory, 'a.yaml'))
    expect(await wait.promise).toBe('renamed')
    wait = next()
    await mkdir(join(directory, 'team'))
    await write('team/b.yaml', rules(DENY))
    expect(await wait.promise).toBe('renamed,stop')
    expect(source.current().rules).toHaveLength(2)
  })

  it('reports a bad file and keeps the good policy', async () => {
    await write('a.yaml', rules(READ))
    const wait = next<readonly Problem[]>()
    const source = await start({ isWatching: true, onProblems: wait.resolve })
    await write('a.yaml', 'rules: {')
    expect(formatProblems(await wait.promise)).toContain('a.yaml:1')
    expect(source.current().rules.map(({ id }) => id)).toEqual(['read'])
  })
})
