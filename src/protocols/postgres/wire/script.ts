/**
 * Scripts of the gateway's own on the connection of a client, inside the transaction that is open there.
 *
 * Statements and portals have names of their own, so that the client's unnamed ones stay what they are; a Sync ends each
 * script, which inside a transaction ends nothing else (PostgreSQL manual, 55.2.3).
 *
 * @packageDocumentation
 */
import type { BackendReport } from '../errors.ts'
import type { Outcome, Step } from '../exchange.ts'
import type { BackendMessage } from '../messages/backend.ts'
import { encodeBind } from '../messages/bind.ts'
import { decodeCommandComplete } from '../messages/command-complete.ts'
import { SYNC } from '../messages/control.ts'
import { decodeTextRow } from '../messages/data-row.ts'
import { encodeDescribe } from '../messages/describe.ts'
import { encodeExecute } from '../messages/execute.ts'
import { encodeParse } from '../messages/parse.ts'
import { decodeReport, type Report } from '../messages/report.ts'
import type { WireBackend } from './backend.ts'

const OWN = 'sallyport_script'
const TRIAL = 'sallyport_trial'

/** Runs a script. Nothing else may be under way on the connection. Never throws. */
export async function runScript(backend: WireBackend, script: readonly Step[]): Promise<Outcome> {
  const reading = new Reading(script)
  const heard = backend.onNotice
  // What the gateway's own statements make the server say is for nobody.
  backend.onNotice = () => undefined
  try {
    await backend.sync()
    backend.readsRows = true
    backend.send([...script.flatMap(messagesOf), SYNC])
    backend.isSyncSent = true
    while (backend.isOpen) {
      const piece = await backend.next()
      if (piece.kind !== 'message' || !reading.take(piece)) throw new Error('The server spoke out of turn.')
      if (piece.letter === 'Z') backend.synced(piece.body)
    }
    return reading.outcome({ kind: 'ready', status: backend.status })
  } catch (cause) {
    backend.destroy(cause)
    return reading.outcome({ kind: 'lost', cause, answered: reading.step })
  } finally {
    backend.onNotice = heard
  }
}

/** Has a statement on trial forgotten with the next thing that is sent. */
export function forgetTrial(backend: WireBackend): void {
  backend.sendAhead(close('portal', TRIAL), '3')
  backend.sendAhead(close('statement', TRIAL), '3')
}

function messagesOf(step: Step): readonly Buffer[] {
  if (step.do === 'fetch') return [encodeExecute({ portal: TRIAL, rowsMax: step.rowsMax })]
  const name = step.do === 'open' ? TRIAL : OWN
  const params = (step.params ?? []).map((param) => (param === null ? null : Buffer.from(param)))
  const opening = [
    // A script that failed has left it behind.
    close('statement', name),
    encodeParse({ name, sql: step.sql, paramTypes: step.paramTypes ?? [] }),
    encodeBind({ portal: name, statement: name, paramFormats: [], params, resultFormats: [] }),
  ]
  if (step.do === 'open') return [...opening, encodeDescribe({ type: 'Describe', what: 'portal', name })]
  return [...opening, encodeExecute({ portal: name, rowsMax: 0 }), close('portal', name), close('statement', name)]
}

function close(what: 'portal' | 'statement', name: string): Buffer {
  return encodeDescribe({ type: 'Close', what, name })
}

/** The answers to one script. */
class Reading {
  /** The step that is being answered. */
  step = 0
  readonly #script: readonly Step[]
  #failure: Outcome['failure']

  constructor(script: readonly Step[]) {
    this.#script = script
  }

  /** Returns whether the message may come here. */
  take({ letter, body }: BackendMessage): boolean {
    const step = this.#script[this.step]
    switch (letter) {
      case 'D':
        if (step === undefined || step.do === 'open') return false
        step.onRow?.(decodeTextRow(body), body.length)
        return true
      case 'C':
      case 'I':
      case 's':
        return this.#completed(letter === 'C' ? decodeCommandComplete(body) : letter === 'I' ? '' : undefined)
      case 'T':
      case 'n':
        if (step?.do !== 'open') return false
        step.onFields([])
        this.step++
        return true
      case 'E':
        this.#failure ??= { report: reportOf(decodeReport('ErrorResponse', body)), step: this.step }
        return true
      default:
        return '123Z'.includes(letter)
    }
  }

  outcome(outcome: Outcome): Outcome {
    return this.#failure === undefined ? outcome : { ...outcome, failure: this.#failure }
  }

  #completed(tag: string | undefined): boolean {
    const step = this.#script[this.step]
    if (step === undefined || step.do === 'open') return false
    step.onDone?.(tag)
    this.step++
    return true
  }
}

function reportOf(report: Report): BackendReport {
  return {
    severity: report.get('S'),
    code: report.get('C'),
    message: report.get('M'),
    position: report.get('P'),
  }
}
