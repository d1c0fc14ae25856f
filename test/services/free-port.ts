/** Ports of 127.0.0.1 for servers that must be told theirs before they start. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'

const LOWEST = 10_000
/** Where the ports end that are tried, on a machine that does not say which ones it gives away. */
const HIGHEST = 32_000

const given = new Set<number>()

/**
 * Ports nobody has. They lie below those the kernel gives to connections and to whoever asks for any port, so nobody
 * gets one of them between this look and the server's own.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = []
  while (ports.length < count) ports.push(await freePort())
  return ports
}

/** One of {@link freePorts}. */
export async function freePort(): Promise<number> {
  const end = endOfRange()
  for (;;) {
    const port = LOWEST + Math.floor(Math.random() * (end - LOWEST))
    if (given.has(port) || !(await isFree(port))) continue
    given.add(port)
    return port
  }
}

/** The kernel's own range begins here (ip(7), `ip_local_port_range`). */
function endOfRange(): number {
  try {
    const first = Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/u)[0])
    return first > LOWEST + 1_000 ? first : HIGHEST
  } catch {
    return HIGHEST
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch {
    return false
  }
  server.close()
  await once(server, 'close')
  return true
}
