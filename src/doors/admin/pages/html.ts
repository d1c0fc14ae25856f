import { visible } from '../../../approval/escape.ts'

/** Markup that this folder wrote. Nothing else is put into a page as it is. */
export class Html {
  readonly markup: string
  constructor(markup: string) {
    this.markup = markup
  }
}

/** What may stand in a template: text is escaped, markup is not, `undefined` and `false` are nothing. */
type Part = string | number | Html | undefined | false | readonly Part[]

/**
 * Writes markup. Every text in it is escaped for element content and for quoted attributes alike, and its hidden
 * characters are made visible, whatever room it came from; so no caller can forget it.
 */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.map((text, at) => `${text}${at < parts.length ? markupOf(parts[at]) : ''}`).join(''))
}

/** Text of several lines, for `<pre>`; elsewhere a line feed is written out like other control characters. */
export function lines(text: string): Html {
  return new Html(escape(visible(text, 'keep-lines')))
}

function markupOf(part: Part): string {
  if (part === undefined || part === false) return ''
  if (part instanceof Html) return part.markup
  if (typeof part === 'number') return String(part)
  if (typeof part === 'string') return escape(visible(part))
  return part.map(markupOf).join('')
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escape(text: string): string {
  return text.replaceAll(/[&<>"']/gu, (character) => ENTITIES[character] ?? '')
}
