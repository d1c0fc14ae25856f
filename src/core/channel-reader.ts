/**
 * Makes lines a person can read of a channel whose bytes are a protocol's own, piece by piece as they were recorded.
 *
 * What it returns may hold any character; whoever shows it makes it harmless.
 */
export interface ChannelReader {
  /** What is complete with this piece. */
  push(piece: Uint8Array): readonly string[]
  /** What is left when nothing more comes, because the result or what is shown of it ends. */
  end(): readonly string[]
}
