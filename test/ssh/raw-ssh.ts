/** The beginning of an SSH connection by hand (RFC 4253, sections 4 to 7), for peers that do not keep to the rules. */
import { randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'

/** Numbers of messages. */
export const IGNORE = 2
export const DEBUG = 4
export const KEXINIT = 20

/** An unencrypted packet. */
export function packet(payload: Uint8Array): Buffer {
  const padding = 8 - ((payload.length + 5) % 8) + 8
  const head = Buffer.alloc(5)
  head.writeUInt32BE(payload.length + padding + 1, 0)
  head.writeUInt8(padding, 4)
  return Buffer.concat([head, payload, randomBytes(padding)])
}

/** A string as the protocol writes it. */
export function text(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** What a peer offers. */
export function kexInit(kex: string, ciphers = 'aes128-gcm@openssh.com'): Buffer {
  const lists = [kex, 'ssh-ed25519', ciphers, ciphers, 'hmac-sha2-256', 'hmac-sha2-256', 'none', 'none', '', '']
  return Buffer.concat([Buffer.of(KEXINIT), randomBytes(16), ...lists.map((list) => text(list)), Buffer.alloc(5)])
}

/** The peer's lists, in the order of RFC 4253, section 7.1. */
export function listsOf(payload: Buffer): readonly (readonly string[])[] {
  const lists: string[][] = []
  let at = 17
  for (let index = 0; index < 10; index++) {
    const length = payload.readUInt32BE(at)
    lists.push(payload.toString('latin1', at + 4, at + 4 + length).split(','))
    at += 4 + length
  }
  return lists
}

/** Reads the greeting line and unencrypted packets of a peer. */
export async function* packetsOf(socket: Socket): AsyncGenerator<Buffer, void, undefined> {
  let held = Buffer.alloc(0)
  let isGreeted = false
  // Who resets the connection has said all.
  for await (const piece of socket.on('error', () => undefined)) {
    held = Buffer.concat([held, piece as Buffer])
    if (!isGreeted) {
      const end = held.indexOf('\n')
      if (end < 0) continue
      isGreeted = true
      held = held.subarray(end + 1)
    }
    while (held.length >= 5 && held.length >= held.readUInt32BE(0) + 4) {
      const length = held.readUInt32BE(0)
      yield held.subarray(5, 4 + length - held.readUInt8(4))
      held = held.subarray(4 + length)
    }
  }
}
