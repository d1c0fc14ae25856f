/** What a process has cost so far, as the kernel counts it (proc(5)). Linux only. */
import { readdir, readFile, writeFile } from 'node:fs/promises'

/** CPU of all threads that live now, in microseconds; finer than the clock ticks of `stat`. */
export async function threadCpuUs(pid: number): Promise<number> {
  let nanoseconds = 0
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const text = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').catch(() => '0')
    nanoseconds += Number(text.split(' ')[0])
  }
  return nanoseconds / 1000
}

/** Forgets the highest resident size, so that {@link peakRssMiB} tells of what comes now. */
export async function resetPeakRss(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
}

/** The highest resident size since the last reset, in MiB. */
export async function peakRssMiB(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+)/u.exec(text)?.[1]) / 1024
}
