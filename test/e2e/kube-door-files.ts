/** Files to and from containers, and what runs in them already: commands underneath, with streams both ways. */
import { spawnSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import type { KubeWorld } from './kube-door-world.ts'

/** The pod `till` in the namespace `shop` runs; the agent may run `tar` and `test` in it, and attach to it. */
export function describeFiles(world: () => KubeWorld, run: (args: readonly string[]) => Promise<string>): void {
  describe('files and attached containers', () => {
    it('come out of a container whole', async () => {
      const there = path.join(world().dir, 'there')
      await mkdir(path.join(there, 'data'), { recursive: true })
      const content = 'line of a file\n'.repeat(20_000)
      await writeFile(path.join(there, 'data', 'report.txt'), content)
      const { stdout } = spawnSync('tar', ['cf', '-', '-C', there, 'data/report.txt'], { maxBuffer: 4 * 1024 * 1024 })
      world().kube.node.programs.set('tar', async ({ argv, out }) => {
        out(argv.join(' ') === 'tar cf - /data/report.txt' ? stdout : Buffer.alloc(0))
        return 0
      })
      await run(['cp', 'shop/till:/data/report.txt', 'fetched.txt'])
      expect((await readFile(path.join(world().dir, 'fetched.txt'), 'utf8')) === content).toBe(true)
    })

    it('go into a container whole', async () => {
      const got: Buffer[] = []
      const words: string[] = []
      const { programs } = world().kube.node
      programs.set('test', async () => 1)
      programs.set('tar', async ({ argv, stdin }) => {
        words.push(argv.join(' '))
        for await (const piece of stdin) got.push(piece)
        return 0
      })
      const content = 'what is sent\n'.repeat(20_000)
      await writeFile(path.join(world().dir, 'sent.txt'), content)
      await run(['cp', 'sent.txt', 'shop/till:/data/sent.txt'])
      expect(words).toEqual(['tar -xmf - -C /data'])
      const listed = spawnSync('tar', ['xOf', '-'], { input: Buffer.concat(got), maxBuffer: 4 * 1024 * 1024 })
      expect(listed.stdout.toString() === content).toBe(true)
      await expect.poll(() => world().recorded()).toContain('what is sent')
    })

    it('show what runs in them', async () => {
      world().kube.node.programs.set('', async ({ out }) => {
        out('says what it says\n')
        return 0
      })
      expect(await run(['attach', 'till', '-n', 'shop'])).toContain('says what it says')
      expect(world().recorded()).toContain('k8s.attach')
    })
  })
}
