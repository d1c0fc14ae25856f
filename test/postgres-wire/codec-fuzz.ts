/**
 * Bytes as an attacker would cut, change and pile them: whatever comes, the codec of the PostgreSQL door gives the same
 * messages for any cut, says no with an error of its own, and keeps no more than it was sent.
 */
import { expect } from 'vitest'
import { SallyportError } from '../../src/core/errors.ts'
import { BackendReader } from '../../src/protocols/postgres/messages/backend.ts'
import { FrontendReader } from '../../src/protocols/postgres/messages/frontend.ts'
import { readStartup } from '../../src/protocols/postgres/messages/startup.ts'
import { SALT_WORDS, type Dice } from './dice.ts'

const LETTERS = 'QPBDCEFdcfSHXp'
const BACKEND_LETTERS = 'RKSZTDCEINAnst123GHWdcvV'

/** Runs one round for a throw of the dice. */
export function fuzzRound(dice: Dice): void {
  const bytes = streamOf(dice, LETTERS)
  expectSame(bytes, dice, readFrontend)
  expectSame(streamOf(dice, BACKEND_LETTERS), dice, readBackend)
  typed(() => readStartup(bytes))
}

/** Messages, some of them whole, some with a length that lies or a body that was changed. */
function streamOf(dice: Dice, letters: string): Buffer {
  const pieces: Buffer[] = []
  for (let count = dice.below(8); count >= 0; count--) {
    const body = bodyOf(dice)
    const header = Buffer.alloc(5)
    header.write(letters[dice.below(letters.length)] ?? 'Q', 'latin1')
    const lie = dice.below(12)
    const length = lie === 0 ? dice.below(0x1_0000_0000) : lie === 1 ? dice.below(9) : body.length + 4
    header.writeUInt32BE(length, 1)
    pieces.push(header, body)
  }
  const bytes = Buffer.concat(pieces)
  for (let count = dice.below(3); count > 0 && bytes.length > 0; count--) {
    bytes[dice.below(bytes.length)] = dice.below(256)
  }
  return bytes
}

function bodyOf(dice: Dice): Buffer {
  const pieces: Buffer[] = []
  for (let count = dice.below(6); count > 0; count--) {
    const kind = dice.below(4)
    if (kind === 0) pieces.push(Buffer.from(`${SALT_WORDS[dice.below(SALT_WORDS.length)] ?? ''}\0`))
    else if (kind === 1) pieces.push(Buffer.from([0, dice.below(5)]))
    else if (kind === 2) pieces.push(Buffer.from([dice.below(2) * 255, dice.below(2) * 255, 0, dice.below(9)]))
    else pieces.push(Buffer.from(Array.from({ length: dice.below(12) }, () => dice.below(256))))
  }
  return Buffer.concat(pieces)
}

/** What a reader makes of the bytes in one piece, it makes of them in any pieces. */
function expectSame(bytes: Buffer, dice: Dice, read: (pieces: readonly Buffer[]) => string): void {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + dice.below(dice.below(3) === 0 ? 3 : 40))
    pieces.push(bytes.subarray(at, end))
    at = end
  }
  expect(read(pieces)).toBe(read([bytes]))
}

function readFrontend(pieces: readonly Buffer[]): string {
  const reader = new FrontendReader()
  const seen: unknown[] = []
  let sent = 0
  for (const piece of pieces) {
    reader.push(piece)
    sent += piece.length
    const end = typed(() => {
      for (let message = reader.next(); message !== undefined; message = reader.next()) seen.push(message)
    })
    expect(reader.waiting).toBeLessThanOrEqual(sent)
    // What follows what cannot be is never looked at.
    if (end !== undefined) return JSON.stringify([seen, end])
  }
  return JSON.stringify([seen, reader.waiting])
}

function readBackend(pieces: readonly Buffer[]): string {
  const reader = new BackendReader()
  reader.readsRows = true
  const seen: string[] = []
  for (const piece of pieces) {
    reader.push(piece)
    const end = typed(() => {
      for (let message = reader.next(); message !== undefined; message = reader.next())
        seen.push(message.bytes.toString('latin1'))
    })
    if (end !== undefined) return JSON.stringify([seen, end])
  }
  return JSON.stringify([seen, reader.waiting])
}

/** The message of a refusal; whatever else is thrown is a defect. */
function typed(work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof SallyportError) return error.message
    throw error
  }
}
