import { pipeline, Readable, type Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import { SallyportError } from '../../core/errors.ts'

/** Pieces a decoder hands out: what one small piece blows up to is bounded by the reader, piece by piece. */
const PIECE_BYTES = 64 * 1024

/**
 * Returns a body with its content codings undone (RFC 9110, section 8.4). Decoders hand out pieces as they are read, so
 * whoever stops reading stops the decoding: a bomb costs what its first bytes cost.
 *
 * @throws SallyportError `ERR_UPSTREAM_REJECTED` for a coding that is not known: what cannot be read cannot be masked.
 */
export function decoded(body: AsyncIterable<Buffer>, encoding: string | undefined): AsyncIterable<Buffer> {
  const codings = (encoding ?? '')
    .toLowerCase()
    .split(',')
    .map((coding) => coding.trim())
    .filter((coding) => coding !== '' && coding !== 'identity')
  const [coding] = codings
  if (coding === undefined) return body
  const decoder = codings.length === 1 ? decoderOf(coding) : undefined
  if (decoder === undefined) {
    throw new SallyportError(
      'ERR_UPSTREAM_REJECTED',
      'The service sent its answer in a content coding that cannot be read here.',
    )
  }
  // An error on either side reaches whoever reads the decoder.
  return pipeline(Readable.from(body, { objectMode: false }), decoder, () => undefined)
}

function decoderOf(coding: string): Transform | undefined {
  const options = { chunkSize: PIECE_BYTES }
  switch (coding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip(options)
    case 'deflate':
      return createInflate(options)
    case 'br':
      return createBrotliDecompress(options)
    default:
      return undefined
  }
}
