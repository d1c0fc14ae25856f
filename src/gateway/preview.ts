import type { Call, Judged, Protocol, Secret, ShownData } from '../core/call.ts'
import type { Cell } from '../core/chunk.ts'
import type { Decision } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Preview, PreviewSection } from '../core/preview.ts'
import type { Masking } from '../masking/masking.ts'
import type { Policy } from '../policy/policy.ts'

/** How long a caller waits for a preview before its approvers are asked without one. */
const PREVIEW_MS = 10_000
const SECTIONS_MAX = 20
const ROWS_MAX = 20
const COLUMNS_MAX = 50
const LINES_MAX = 400
const CELL_CHARS_MAX = 500
const LINE_CHARS_MAX = 2_000
/** A guard is what a protocol made, so that a longer one is a mistake of ours. */
const GUARD_CHARS_MAX = 32_768

/**
 * Asks the protocol what the call would change, and masks the answer for approvers: under every mask of the target,
 * because what the caller may see does not say what its approvers may.
 *
 * Never fails because there is no preview: that is part of what approvers are told. Returns `undefined` for a protocol
 * that has none.
 *
 * @throws the signal's reason when the caller goes away meanwhile.
 */
export async function previewOf(
  call: Call,
  { plan, decision }: Judged,
  protocol: Protocol,
  rooms: { readonly policy: Policy; readonly masking: Masking; readonly secret: () => Promise<Secret> },
): Promise<Preview | undefined> {
  if (protocol.preview === undefined) return undefined
  const every = rooms.policy.everyMask(call.target)
  const strict: Decision = { ...decision, obligations: { ...decision.obligations, ...every } }
  const masked: Masked = (text, data = []) => {
    const { text: fields } = rooms.masking.fields({ text, data }, strict)
    return rooms.masking.text(fields, strict)
  }
  const timeout = AbortSignal.timeout(PREVIEW_MS)
  try {
    const signal = AbortSignal.any([call.signal, timeout])
    const preview = await protocol.preview(call, plan, { masks: every.columns, secret: rooms.secret, signal })
    return bounded(preview, masked)
  } catch (error) {
    call.signal.throwIfAborted()
    if (timeout.aborted) {
      return { sections: [], missing: `There is no preview: it took longer than ${PREVIEW_MS / 1_000} s.` }
    }
    const { message } = rooms.masking.error(SallyportError.from(error), strict)
    return { sections: [], missing: `There is no preview: ${message}` }
  }
}

type Masked = (text: string, data?: readonly ShownData[]) => string

/** What is kept of a preview: masked, and of a size a person can read. */
function bounded({ sections, missing, guard, touched }: Preview, masked: Masked): Preview {
  if (guard !== undefined && guard.length > GUARD_CHARS_MAX) throw new TypeError('the guard of a preview is too long')
  const left = sections.length - SECTIONS_MAX
  const said = [
    ...(missing === undefined ? [] : [masked(missing)]),
    ...(left > 0 ? [`${left} more sections are not shown.`] : []),
  ]
  return {
    sections: sections.slice(0, SECTIONS_MAX).map((section) => boundedSection(section, masked)),
    ...(said.length > 0 && { missing: cut(said.join(' '), LINE_CHARS_MAX) }),
    ...(guard !== undefined && { guard }),
    // Fail closed: of more tables than approvers are shown nobody agreed to how many rows.
    ...(touched !== undefined && left <= 0 && { touched }),
  }
}

function boundedSection(section: PreviewSection, masked: Masked): PreviewSection {
  const { title, text, table, more } = section
  const lines = text === undefined ? [] : maskedText(text, section, masked).split('\n')
  const rows = table?.rows ?? []
  const left = (more ?? 0) + Math.max(0, lines.length - LINES_MAX) + Math.max(0, rows.length - ROWS_MAX)
  return {
    title: cut(masked(title), LINE_CHARS_MAX),
    ...(text !== undefined && {
      text: lines
        .slice(0, LINES_MAX)
        .map((line) => cut(line, LINE_CHARS_MAX))
        .join('\n'),
    }),
    ...(table !== undefined && {
      table: {
        columns: [
          ...table.columns.slice(0, COLUMNS_MAX).map((name) => masked(name)),
          ...(table.columns.length > COLUMNS_MAX ? [`(${table.columns.length - COLUMNS_MAX} more columns)`] : []),
        ],
        rows: rows.slice(0, ROWS_MAX).map((row) => row.slice(0, COLUMNS_MAX).map((cell) => maskedCell(cell, masked))),
      },
    }),
    ...(left > 0 && { more: left }),
  }
}

/** Masked whole before it is cut: half of a secret is not found. */
function maskedText(text: string, { data, hash = '' }: PreviewSection, masked: Masked): string {
  const said = masked(text, data)
  return hash === '' || said === text ? said : said.replaceAll(hash, 'withheld')
}

function maskedCell(cell: Cell, masked: Masked): Cell {
  return cell === null ? null : cut(masked(cell), CELL_CHARS_MAX)
}

/** Says how much it leaves out, and splits no character. */
function cut(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text
  const end = /[\uD800-\uDBFF]$/.test(text.slice(0, charsMax)) ? charsMax - 1 : charsMax
  return `${text.slice(0, end)}… (${text.length - end} more characters)`
}
